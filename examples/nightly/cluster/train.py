"""Train one model with Spark, validate it, and log both to MLflow."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import attempt
import f1
import mlflow
import mlflow.spark
import pyspark
import settings
import storage
import tracking
from mlflow.models import infer_signature
from preprocess import NUMBERS
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression, RandomForestClassifier
from pyspark.ml.feature import OneHotEncoder, StandardScaler, StringIndexer, VectorAssembler
from pyspark.sql import DataFrame, SparkSession
from settings import Days

PARAMETERS: dict[str, dict[str, Any]] = {
    "logistic_regression": {"maxIter": 50, "regParam": 0.01},
    "random_forest": {"numTrees": 20, "maxDepth": 6, "seed": 1},
}
CLASSES = {"logistic_regression": LogisticRegression, "random_forest": RandomForestClassifier}
PREDICTIONS = "predictions.csv"


def main() -> None:
    arguments, days = settings.parse(__doc__ or "", of_model=True)
    model, dag = arguments.model, arguments.dag
    settings.mlflow_variables()  # refuse before minutes are spent
    with attempt.only(f"{model}-{dag}-{days}"), storage.spark(model) as session:
        rows = storage.read(session, storage.path("processed", days))
        tracking.connect()
        with tracking.only_run(tracking.tags(dag, days, model)):
            train(session, model, rows, days, dag)


def train(session: SparkSession, name: str, rows: DataFrame, days: Days, dag: str) -> None:
    mlflow.log_params({**PARAMETERS[name], "first": days.first, "last": days.last})
    train_rows, held_out = rows.where("not held_out"), rows.where("held_out")
    fitted = pipeline(name).fit(train_rows)
    predicted = fitted.transform(held_out).select("id", "label", "prediction").collect()
    table = [(int(row.id), int(row.label), int(row.prediction)) for row in predicted]
    log_validation(sorted(table))
    temporary = f"{storage.path('temporary', days)}-{dag}-{name}"
    storage.remove(session, temporary)  # of an attempt that was killed
    example = train_rows.select(*NUMBERS, "kind").limit(5).toPandas()
    # MLflow first asks Spark to write to the server itself, which fails and prints a stack trace.
    session.sparkContext.setLogLevel("OFF")
    mlflow.spark.log_model(
        fitted,
        artifact_path="model",
        dfs_tmpdir=temporary,
        signature=infer_signature(example),
        pip_requirements=[f"pyspark=={pyspark.__version__}"],
    )
    storage.remove(session, temporary)


def pipeline(name: str) -> Pipeline:
    """From the cleaned columns to a prediction."""
    return Pipeline(
        stages=[
            StringIndexer(inputCol="kind", outputCol="kind_number", handleInvalid="keep"),
            OneHotEncoder(inputCol="kind_number", outputCol="kind_vector"),
            VectorAssembler(inputCols=[*NUMBERS, "kind_vector"], outputCol="unscaled"),
            StandardScaler(inputCol="unscaled", outputCol="features"),
            CLASSES[name](labelCol="label", **PARAMETERS[name]),
        ]
    )


def log_validation(table: list[tuple[int, int, int]]) -> None:
    """F1 with its interval, accuracy, and the predictions on the rows that were held out."""
    rows = [(label, prediction) for _, label, prediction in table]
    found = f1.interval(rows)
    accuracy = sum(label == prediction for label, prediction in rows) / len(rows)
    metrics = {"f1": found.f1, "f1_low": found.low, "f1_high": found.high, "accuracy": accuracy}
    mlflow.log_metrics(metrics)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, PREDICTIONS)
        with file.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerows([("id", "label", "prediction"), *table])
        mlflow.log_artifact(str(file))
    print(" ".join(f"{name}={value:.4f}" for name, value in metrics.items()), flush=True)


if __name__ == "__main__":
    attempt.run(main)
