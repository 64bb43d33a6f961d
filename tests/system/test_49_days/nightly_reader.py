"""What is in MLflow of a range of days, as JSON; runs in the environment of the cluster.

The statistics are computed again by other ways than the example's: scipy's own bootstrap, and the
t-test from its definition.
"""

from __future__ import annotations

import csv
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from scipy import stats  # type: ignore[import-untyped, import-not-found, unused-ignore]

MODELS = ("logistic_regression", "random_forest")


def main() -> None:
    days, deep = sys.argv[1], sys.argv[2] == "deep"
    client = MlflowClient()
    experiment = client.get_experiment_by_name("nightly")
    if experiment is None:
        print(json.dumps({"runs": []}))
        return
    where = [experiment.experiment_id]
    runs = client.search_runs(where, f"tags.`nightly.days` = '{days}'", ViewType.ACTIVE_ONLY)
    found: dict[str, Any] = {"runs": [shown(run) for run in runs]}
    if deep:
        by_model = {run.data.tags["nightly.model"]: run for run in runs}
        tables = {name: predictions(by_model[name]) for name in MODELS}
        found["statistics"] = compared(tables)
        found["intervals"] = {name: interval(rows) for name, rows in tables.items()}
        found["same"] = {name: loaded(by_model[name], tables[name], days) for name in MODELS}
        folder = mlflow.artifacts.download_artifacts(run_id=by_model["comparison"].info.run_id)
        found["plot"] = Path(folder, "f1.png").read_bytes()[:8].hex()
    print(json.dumps(found))


def shown(run: Run) -> dict[str, Any]:
    client = MlflowClient()
    return {
        "id": run.info.run_id,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "files": sorted(one.path for one in client.list_artifacts(run.info.run_id)),
    }


def predictions(run: Run) -> dict[int, tuple[int, int]]:
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="predictions.csv"
    )
    with Path(path).open() as file:
        return {
            int(row["id"]): (int(row["label"]), int(row["prediction"]))
            for row in csv.DictReader(file)
        }


def f1(label: Any, predicted: Any, axis: int = -1) -> Any:
    """F1 from precision and recall; also of many samples at once."""
    hit = np.sum((label == 1) & (predicted == 1), axis=axis)
    precision = hit / np.maximum(np.sum(predicted == 1, axis=axis), 1)
    recall = hit / np.maximum(np.sum(label == 1, axis=axis), 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def interval(rows: dict[int, tuple[int, int]]) -> list[float]:
    label, predicted = np.array(list(rows.values())).T
    result = stats.bootstrap(
        (label, predicted),
        f1,
        paired=True,
        n_resamples=2000,
        batch=100,
        method="percentile",
        random_state=12345,
    )
    low, high = result.confidence_interval
    return [float(f1(label, predicted)), float(low), float(high)]


def compared(tables: dict[str, dict[int, tuple[int, int]]]) -> dict[str, float]:
    """t and its one-sided p-value, from the mean and the deviation of the differences."""
    first, second = (np.array([table[key] for key in sorted(table)]) for table in tables.values())
    parts = 20
    differences = [
        float(f1(*second[place::parts].T) - f1(*first[place::parts].T)) for place in range(parts)
    ]
    t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(parts))
    return {"t": t, "p_value": float(stats.t.sf(t, parts - 1))}


def loaded(run: Run, table: dict[int, tuple[int, int]], days: str) -> int:
    """How many rows the model from MLflow predicts as the step did; -1: some differ."""
    import mlflow.spark
    from pyspark.sql import SparkSession  # type: ignore[import-not-found, unused-ignore]

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = session.config("spark.driver.memory", "512m").getOrCreate()
    root = os.environ["HDFS_ROOT"]
    rows = spark.read.parquet(f"{root}/processed/{days}").where("held_out").limit(200)
    model = mlflow.spark.load_model(
        f"runs:/{run.info.run_id}/model", dfs_tmpdir=f"{root}/temporary/reader"
    )
    found = model.transform(rows).select("id", "prediction").collect()
    same = all(table[row.id][1] == row.prediction for row in found)
    return len(found) if same else -1


if __name__ == "__main__":
    main()
