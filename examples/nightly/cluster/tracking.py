"""One run in MLflow for each range of days and model, however often a step is repeated."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import mlflow
import settings
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from settings import Days

EXPERIMENT = "nightly"


def connect() -> None:
    """Set MLflow's variables and the experiment."""
    os.environ.update(settings.mlflow_variables())
    mlflow.set_experiment(EXPERIMENT)


def tags(dag: str, days: Days, model: str) -> dict[str, str]:
    """What a run is found by."""
    return {"nightly.dag": dag, "nightly.days": str(days), "nightly.model": model}


def found(wanted: dict[str, str]) -> list[Run]:
    """The runs with these tags, whatever became of them."""
    client = MlflowClient()
    experiment = mlflow.set_experiment(EXPERIMENT)
    words = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
    return list(client.search_runs([experiment.experiment_id], words, ViewType.ACTIVE_ONLY))


def finished(wanted: dict[str, str]) -> Run | None:
    """The one that counts: the newest that has finished."""
    done = [run for run in found(wanted) if run.info.status == "FINISHED"]
    return max(done, key=lambda run: run.info.end_time) if done else None


@contextlib.contextmanager
def only_run(wanted: dict[str, str]) -> Iterator[Run]:
    """A new run; when it has finished, it replaces earlier ones with the same tags.

    Runs that were begun and never finished are removed first. If the body fails, the earlier result
    stays.
    """
    earlier = []
    for run in found(wanted):
        if run.info.status == "FINISHED":
            earlier.append(run)
        else:
            remove(run)
    name = f"{wanted['nightly.model']} {wanted['nightly.days']}"
    with mlflow.start_run(run_name=name, tags=wanted) as new:
        yield new
    for run in earlier:
        remove(run)


def remove(run: Run) -> None:
    """Delete a run and its model; `mlflow gc` on the server frees their artifacts."""
    client = MlflowClient()
    print(f"removing the {run.info.status} run {run.info.run_id} of the same days", flush=True)
    if run.info.status == "RUNNING":
        client.set_terminated(run.info.run_id, "KILLED")
    client.delete_run(run.info.run_id)
