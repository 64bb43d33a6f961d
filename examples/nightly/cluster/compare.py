"""Compare both models of some days: intervals of F1, a t-test, its conclusion, a plot."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import attempt
import f1
import matplotlib
import mlflow
import settings
import tracking
from settings import MODELS, Days, RefusedError

matplotlib.use("Agg")
from matplotlib import pyplot

COMPARISON = "comparison"
Rows = dict[int, f1.Row]


def main() -> None:
    arguments, days = settings.parse(__doc__ or "")
    with attempt.only(f"compare-{arguments.dag}-{days}"):
        tracking.connect()
        both = {name: predictions(arguments.dag, days, name) for name in MODELS}
        first, second = MODELS
        labels = [{key: row[0] for key, row in rows.items()} for rows in both.values()]
        if labels[0] != labels[1]:
            raise RefusedError(f"the models of {days} saw different rows: train both again")
        with tracking.only_run(tracking.tags(arguments.dag, days, COMPARISON)):
            log(days, first, second, both)


def predictions(dag: str, days: Days, model: str) -> Rows:
    """What a model predicted for the rows that were held out, by their id."""
    run = tracking.finished(tracking.tags(dag, days, model))
    if run is None:
        raise RefusedError(f"MLflow has no finished run of {model} for {days}: train it first")
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="predictions.csv"
    )
    with Path(path).open(newline="") as file:
        rows = csv.DictReader(file)
        return {int(row["id"]): (int(row["label"]), int(row["prediction"])) for row in rows}


def log(days: Days, first: str, second: str, both: dict[str, Rows]) -> None:
    intervals = {name: f1.interval(list(rows.values())) for name, rows in both.items()}
    parts = {name: f1.by_part(rows) for name, rows in both.items()}
    test = f1.is_second_better(parts[first], parts[second])
    mlflow.log_params(
        {
            **{"first": days.first, "last": days.last, "parts": f1.PARTS, "alpha": f1.ALPHA},
            **{"resamples": f1.RESAMPLES, "confidence": f1.CONFIDENCE},
        }
    )
    metrics = {"t": test.t, "p_value": test.p}
    for name, found in intervals.items():
        metrics |= {f"{name}_f1": found.f1, f"{name}_f1_low": found.low}
        metrics |= {f"{name}_f1_high": found.high}
    mlflow.log_metrics(metrics)
    with tempfile.TemporaryDirectory() as folder:
        plot(Path(folder, "f1.png"), days, intervals, parts)
        with Path(folder, "f1_of_parts.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([parts, *zip(*parts.values(), strict=True)])
        mlflow.log_artifacts(folder)
    conclusion = test.conclusion(first, second)
    mlflow.set_tag("conclusion", conclusion)
    print(f"{conclusion} (t={test.t:.2f}, p={test.p:.3g})", flush=True)


def plot(
    file: Path, days: Days, intervals: dict[str, f1.Interval], parts: dict[str, list[float]]
) -> None:
    """F1 of each model with its interval, and F1 on each part as a point."""
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for place, (name, found) in enumerate(intervals.items()):
        error = [[found.f1 - found.low], [found.high - found.f1]]
        axes.plot([place + 0.15] * len(parts[name]), parts[name], ".", color="gray")
        axes.errorbar([place], [found.f1], yerr=error, fmt="o", capsize=8)
    axes.set_xticks(range(len(intervals)), list(intervals))
    axes.set_xlim(-0.5, len(intervals) - 0.5)
    axes.set_ylabel(f"F1 with its {f1.CONFIDENCE:.0%} interval")
    axes.set_title(f"{days.first} to {days.last}")
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    attempt.run(main)
