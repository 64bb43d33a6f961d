"""The smoke test's actions with MLflow's client: write the contents, read them, delete them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_image.checks.smoke.contents import (
    ALIAS,
    ARTIFACT_BYTES,
    ARTIFACT_FOLDER,
    ARTIFACT_NAME,
    Contents,
    Point,
    compare_history,
    compare_mapping,
    compare_numbers,
    same,
    sha256,
)
from mlflow_image.checks.smoke.protocol import Reporter

MODEL_CODE = Path(__file__).with_name("model.py")
#: Metric points sent one a request, as a training loop does; the others go in batches.
SINGLE_POINTS = 10


@dataclass(frozen=True)
class Session:
    """One phase: a new client, the contents, a scratch folder, and where the events go."""

    url: str
    contents: Contents
    folder: Path
    reporter: Reporter

    def __post_init__(self) -> None:
        mlflow.set_tracking_uri(self.url)
        mlflow.set_registry_uri(self.url)

    @property
    def client(self) -> Any:
        return mlflow.MlflowClient(self.url, self.url)


def write(session: Session) -> None:
    """Log everything as a user's training script does, with the fluent API."""
    compare, contents = session.reporter.compare, session.contents
    compare("experiment", lambda: written(mlflow.set_experiment(contents.experiment)))
    compare("run", lambda: written(mlflow.start_run(run_name=contents.run)))
    compare("parameters", lambda: written(mlflow.log_params(contents.params)))
    compare("tags", lambda: written(mlflow.set_tags(contents.tags)))
    compare("metrics", lambda: write_metrics(session))
    compare("artifact", lambda: write_artifact(session))
    compare("model", lambda: write_model(session))
    compare("end of the run", end_run)


def written(_: object) -> tuple[str, str]:
    return same("written")


def end_run() -> tuple[str, str]:
    mlflow.end_run()
    return same("written")


def write_metrics(session: Session) -> tuple[str, str]:
    run: Any = mlflow.active_run()
    run_id = run.info.run_id
    for name, history in session.contents.metrics.items():
        for step, when_ms, value in history[:SINGLE_POINTS]:
            mlflow.log_metric(name, value, step=step, timestamp=when_ms, synchronous=True)
        batch = [
            mlflow.entities.Metric(name, value, when_ms, step)
            for step, when_ms, value in history[SINGLE_POINTS:]
        ]
        if batch:
            session.client.log_batch(run_id, metrics=batch)
    return same("written")


def write_artifact(session: Session) -> tuple[str, str]:
    path = session.folder / ARTIFACT_NAME
    path.write_bytes(session.contents.artifact)
    mlflow.log_artifact(str(path), ARTIFACT_FOLDER)
    path.unlink()
    return same("written")


def write_model(session: Session) -> tuple[str, str]:
    """Log the model, register it as version 1, and give that version the alias."""
    coefficients = session.folder / "coefficients.json"
    coefficients.write_text(json.dumps(session.contents.coefficients))
    logged = mlflow.pyfunc.log_model(
        name="line",
        python_model=str(MODEL_CODE),
        artifacts={"coefficients": str(coefficients)},
        # Without these, MLflow starts the model in another process to infer them.
        pip_requirements=[f"mlflow=={mlflow.__version__}"],
        signature=mlflow.models.infer_signature(model_input(session.contents), [0.5]),
    )
    version = mlflow.register_model(logged.model_uri, session.contents.model)
    session.client.set_registered_model_alias(session.contents.model, ALIAS, version.version)
    return same("written")


def model_input(contents: Contents) -> pandas.DataFrame:
    return pandas.DataFrame({"x": contents.model_input})


def read(session: Session) -> None:
    """Find everything by name and compare it; only the token comes from the writing phase."""
    compare, contents, client = session.reporter.compare, session.contents, session.client
    runs: list[Any] = []
    compare("run, found by its tag", lambda: find_run(session, runs))
    if not runs:
        return
    run = runs[0]
    data = run.data
    compare("parameters", lambda: compare_mapping(contents.params, data.params))
    compare("tags", lambda: compare_mapping(contents.tags, data.tags))
    for name, history in contents.metrics.items():
        compare(f"metric {name}", partial(read_history, client, run, name, history))
        compare(f"metric {name}, last value", partial(read_last, data, name, history))
    compare("artifact, listed", lambda: list_artifact(client, run))
    compare("artifact, sha256", lambda: read_artifact(session, run))
    compare("model version", lambda: read_version(session, run))
    compare("model, loaded by its alias", lambda: predict(session))


def find_run(session: Session, runs: list[Any]) -> tuple[str, str]:
    """Append to `runs` the one run of the experiment that has the token as a tag."""
    contents, client = session.contents, session.client
    experiment = client.get_experiment_by_name(contents.experiment)
    if experiment is None:
        return f"experiment {contents.experiment}", "no such experiment"
    wanted = f"tags.`smoke.token` = '{contents.token}'"
    runs += client.search_runs([experiment.experiment_id], filter_string=wanted)
    if len(runs) != 1:
        return "1 run", f"{len(runs)} runs"
    # The search has its own query; request the run itself as well.
    runs[0] = client.get_run(runs[0].info.run_id)
    info = runs[0].info
    return f"{contents.run}, FINISHED", f"{info.run_name}, {info.status}"


def read_history(client: Any, run: Any, name: str, expected: list[Point]) -> tuple[str, str]:
    points = client.get_metric_history(run.info.run_id, name)
    return compare_history(expected, [(p.step, p.timestamp, p.value) for p in points])


def read_last(data: Any, name: str, history: list[Point]) -> tuple[str, str]:
    return repr(history[-1][2]), repr(data.metrics.get(name))


def list_artifact(client: Any, run: Any) -> tuple[str, str]:
    found = client.list_artifacts(run.info.run_id, ARTIFACT_FOLDER)
    path = f"{ARTIFACT_FOLDER}/{ARTIFACT_NAME}"
    listed = ", ".join(f"{file.path}: {file.file_size} bytes" for file in found)
    return f"{path}: {ARTIFACT_BYTES} bytes", listed or "nothing listed"


def read_artifact(session: Session, run: Any) -> tuple[str, str]:
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id,
        artifact_path=f"{ARTIFACT_FOLDER}/{ARTIFACT_NAME}",
        dst_path=str(session.folder / "read"),
    )
    return sha256(session.contents.artifact), sha256(Path(path).read_bytes())


def read_version(session: Session, run: Any) -> tuple[str, str]:
    name = session.contents.model
    version = session.client.get_model_version_by_alias(name, ALIAS)
    found = f"version {version.version} of run {version.run_id}, {version.status}"
    return f"version 1 of run {run.info.run_id}, READY", found


def predict(session: Session) -> tuple[str, str]:
    contents = session.contents
    model = mlflow.pyfunc.load_model(f"models:/{contents.model}@{ALIAS}")
    found = [float(y) for y in model.predict(model_input(contents))]
    return compare_numbers(contents.model_output, found)


def delete(session: Session) -> None:
    """Delete what `write` created, even if that was only a part of it; one row for each item.

    The run, the logged model and the experiment go to the server's trash. Only `mlflow gc` on
    the server empties it: the API has no call for that.
    """
    compare, contents, client = session.reporter.compare, session.contents, session.client
    compare("registered model", lambda: delete_registered(client, contents.model))
    experiment = client.get_experiment_by_name(contents.experiment)
    if experiment is None:
        return
    ids = [experiment.experiment_id]
    for model in client.search_logged_models(experiment_ids=ids):
        compare("artifacts of the model", partial(wipe, session, model.artifact_location))
        compare("model", partial(deleted, client.delete_logged_model, model.model_id))
    for run in client.search_runs(ids):
        compare("artifacts of the run", partial(wipe, session, run.info.artifact_uri))
        compare("run", partial(deleted, client.delete_run, run.info.run_id))
    compare("experiment", lambda: delete_experiment(client, experiment.experiment_id))


def delete_registered(client: Any, name: str) -> tuple[str, str]:
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return same("deleted")
    left = client.search_registered_models(f"name = '{name}'")
    return "deleted", "still exists" if left else "deleted"


def delete_experiment(client: Any, experiment_id: str) -> tuple[str, str]:
    client.delete_experiment(experiment_id)
    return "deleted", client.get_experiment(experiment_id).lifecycle_stage


def wipe(session: Session, uri: str) -> tuple[str, str]:
    """Delete all files below an artifact URI; report it as left behind if the store cannot."""
    repository: Any = get_artifact_repository(uri, session.url, session.url)
    try:
        repository.delete_artifacts("")
    except (MlflowException, NotImplementedError, OSError) as error:
        session.reporter.left_behind(f"artifacts at {uri} ({type(error).__name__})")
        return same("left behind")
    return "deleted", "still exists" if repository.list_artifacts() else "deleted"


def deleted(remove: Callable[[str], object], identity: str) -> tuple[str, str]:
    remove(identity)
    return same("deleted")


TASKS: dict[str, Callable[[Session], None]] = {"write": write, "read": read, "delete": delete}
