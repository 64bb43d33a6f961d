"""The server reads and writes artifacts in its own store only, whatever location a client names.

Clients may give an experiment an artifact location and a model version a source. MLflow would open
s3://other-bucket there with the machine's own credentials, or make folders beside its store. So
every location is compared with the store where MLflow opens it, which also covers those that came
in by another way (a trace's tag, an older database), and refused early when an experiment is made.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow_launch import mlflow_names

# These lead back to this server: to a run's or a model's own location, which is compared in turn.
_OWN_SCHEMES = frozenset({"mlflow-artifacts", "models", "runs"})
_FILE_SCHEMES = frozenset({"", "file"})
#: mlflow-configure's variable with the places of the server's store, separated by blanks.
PLACES = "MLFLOW_IMAGE_LOCATIONS"


def mend_registry(module: Any) -> None:
    """Compare each location that is opened. module: mlflow_names.REPOSITORIES."""
    kind = getattr(module, mlflow_names.REPOSITORY_REGISTRY)
    opened = kind.get_artifact_repository

    @functools.wraps(opened)
    def get_artifact_repository(self: Any, artifact_uri: str, *more: Any, **named: Any) -> Any:
        refuse_foreign(str(artifact_uri))
        return opened(self, artifact_uri, *more, **named)

    kind.get_artifact_repository = get_artifact_repository


def mend_handlers(module: Any) -> None:
    """Refuse a foreign location when an experiment is made. module: mlflow_names.HANDLERS."""
    validate = getattr(module, mlflow_names.VALIDATE_LOCATION)

    @functools.wraps(validate)
    def validate_location(value: str, field_name: str) -> Any:
        refuse_foreign(value)
        return validate(value, field_name)

    setattr(module, mlflow_names.VALIDATE_LOCATION, validate_location)


def refuse_foreign(uri: str) -> None:
    """Raise MLflow's INVALID_PARAMETER_VALUE for a location outside this server's store."""
    places = os.environ.get(PLACES, "").split()
    if places and not any(is_own(uri, place) for place in places):
        from mlflow.exceptions import MlflowException

        raise MlflowException.invalid_parameter_value(
            f"This server stores artifacts in its own store only, not in '{uri[:200]}'. "
            "Leave the location out, or begin it with 'mlflow-artifacts:/'."
        )


def is_own(uri: str, store: str) -> bool:
    """Whether a location lies in a place of the server's store, or leads back to the server.

    store: a local path, s3://BUCKET/FOLDER or hdfs://CLUSTER/FOLDER.
    """
    scheme_of: Any = importlib.import_module("mlflow.utils.uri").get_uri_scheme
    path_of: Any = importlib.import_module("mlflow.utils.file_utils").local_file_uri_to_path
    # MLflow decodes some paths twice.
    while (decoded := unquote(uri)) != uri:
        uri = decoded
    scheme = str(scheme_of(uri)).lower()
    if scheme in _OWN_SCHEMES:
        # models://profile@databricks is another server; MLflow itself compares the host of
        # mlflow-artifacts://host with its own.
        return scheme == "mlflow-artifacts" or not urlsplit(uri).netloc
    if scheme == "s3" and store.startswith("s3://"):
        # MLflow makes a key of the path as it is, but joins it with others by posixpath.
        return ".." not in uri.split("/") and f"{uri}/".startswith(f"{store}/")
    if scheme == "hdfs" and store.startswith("hdfs://"):
        # Its path may have blanks, which are quoted in the settings' variable.
        top = unquote(store).rstrip("/")
        return ".." not in uri.split("/") and f"{uri}/".startswith(f"{top}/")
    if scheme not in _FILE_SCHEMES or not store.startswith("/"):
        return False
    root, path = (os.path.normpath(str(path_of(place))) for place in (store, uri))
    return path == root or path.startswith(root + os.sep)
