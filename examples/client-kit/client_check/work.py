"""The part with mlflow, a process of its own: writes a run and a file, and says what happened.

python -m client_check.work write EXPERIMENT_NAME [with-file]; MLFLOW_EXPERIMENT_ID wins over it
python -m client_check.work read ARTIFACT_URI
Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FILE, TEXT = "client-check.txt", "written by check.py\n"


def write(name: str, with_file: bool) -> dict[str, Any]:
    """What could be written: `write` and `artifacts`, each with `error` if it could not."""
    from mlflow import MlflowClient

    said: dict[str, Any] = {"write": {}, "artifacts": {}}
    client = MlflowClient()
    try:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
        if not experiment:
            found = client.get_experiment_by_name(name)
            if found and found.lifecycle_stage == "deleted":
                raise RuntimeError(f"the experiment {name} is deleted")
            experiment = found.experiment_id if found else client.create_experiment(name)
        run = client.create_run(experiment, run_name="client_check")
        said["write"] = {"run": run.info.run_id, "experiment": experiment}
        said["write"]["artifact_uri"] = run.info.artifact_uri
        client.log_param(run.info.run_id, "param_1", 1)
        client.log_metric(run.info.run_id, "my_metric", 1)
    except Exception as error:
        said["write"]["error"] = _chain(error)
        return said
    try:
        if with_file:
            said["artifacts"] = _log(client, run.info.run_id)
            if not said["artifacts"]["presigned"]:
                said["artifacts"].update(read(run.info.artifact_uri))
    except Exception as error:
        said["artifacts"] = {"error": _chain(error)}
    try:
        client.set_terminated(run.info.run_id)
        client.delete_run(run.info.run_id)
    except Exception as error:
        # After another fault this says nothing new.
        if "error" not in said["artifacts"]:
            said["write"]["error"] = _chain(error)
    return said


def _log(client: Any, run: str) -> dict[str, Any]:
    """Write the file; presigned: whether this MLflow would read it by presigned URL."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, FILE)
        file.write_text(TEXT)
        client.log_artifact(run, str(file))
    repository = get_artifact_repository(client.get_run(run).info.artifact_uri)
    # MLflow's own question; older versions do not have it.
    asks = getattr(repository, "_is_multipart_download_enabled", None)
    return {"presigned": bool(asks and asks())}


def read(uri: str) -> dict[str, Any]:
    """Read the file of an earlier write."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        try:
            file = Path(download_artifacts(artifact_uri=f"{uri}/{FILE}", dst_path=folder))
            found = file.read_text()
        except Exception as error:
            return {"error": _chain(error)}
    return {} if found == TEXT else {"error": f"read {len(found)} other characters"}


def _chain(error: BaseException | None) -> str:
    """The error and its causes: the last one often says it best."""
    found: list[str] = []
    while error is not None and len(found) < 8:
        found.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(found)


if __name__ == "__main__":
    printed, sys.stdout = sys.stdout, sys.stderr
    what, place, *more = sys.argv[1:]
    json.dump(read(place) if what == "read" else write(place, "with-file" in more), printed)
