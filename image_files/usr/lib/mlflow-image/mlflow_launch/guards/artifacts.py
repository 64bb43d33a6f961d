"""An upload is acknowledged only when its file would survive a power cut.

MLflow writes an artifact beside its place and renames it, without an fsync: after a power cut it
may be gone or empty. Here the file, its folder and the parents of new folders are on the disk
before the call returns (commit.py). All of this runs in the worker threads that MLflow uses for
files, never on the event loop.

Each file carries its length as an extended attribute, so that a file whose bytes were lost is an
error and not an empty answer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow_launch import mlflow_names
from mlflow_launch.guards import commit

LENGTH = "user.mlflow_image.length"


def mend(module: Any) -> None:
    """Make MLflow's class for local artifacts durable. module: mlflow_names.LOCAL_ARTIFACTS."""
    kind = getattr(module, mlflow_names.LOCAL_REPOSITORY)
    make_directory = kind._get_or_create_artifact_dir
    copy_directory = kind.log_artifacts
    find = kind.get_local_path
    download = kind._download_file

    def publish(
        _: Any, staged: str, target: str, finalize: Callable[[str], None] | None = None
    ) -> None:
        if finalize is not None:
            finalize(staged)
        note_length(Path(staged))
        commit.publish(Path(staged), Path(target))

    def get_or_create(self: Any, artifact_path: str | None = None) -> Any:
        missing = list(_missing(Path(self.artifact_dir, artifact_path or "")))
        made = make_directory(self, artifact_path)
        for directory in missing:
            commit.sync_directory(directory.parent)
        return made

    def log_artifacts(self: Any, local_dir: str, artifact_path: str | None = None) -> Any:
        copied = copy_directory(self, local_dir, artifact_path)
        target = Path(self.artifact_dir, artifact_path or "")
        for folder, _, names in os.walk(local_dir):
            here = target / Path(folder).relative_to(local_dir)
            for name in names:
                note_length(here / name)
                commit.sync_file(here / name)
            commit.sync_directory(here)
        return copied

    def get_local_path(self: Any, artifact_path: str) -> Any:
        found = find(self, artifact_path)
        _refuse_lost_bytes(Path(found), artifact_path)
        return found

    def download_file(self: Any, remote_file_path: str, local_path: str) -> Any:
        get_local_path(self, remote_file_path)  # refuses a file that is missing or damaged
        return download(self, remote_file_path, local_path)

    kind._publish_staged_artifact = publish
    kind._get_or_create_artifact_dir = get_or_create
    kind.log_artifacts = log_artifacts
    kind.get_local_path = get_local_path
    kind._download_file = download_file


def note_length(path: Path) -> None:
    """Write a file's length beside it, where the file system has extended attributes."""
    with contextlib.suppress(OSError):
        os.setxattr(path, LENGTH, str(path.stat().st_size).encode())


def lost_bytes(path: Path) -> int:
    """How many bytes of an uploaded file are missing; 0 when none are, or when nobody knows."""
    try:
        uploaded = int(os.getxattr(path, LENGTH))
        return max(0, uploaded - path.stat().st_size)
    except (OSError, ValueError):
        return 0


def _refuse_lost_bytes(path: Path, artifact_path: str) -> None:
    if lost := lost_bytes(path):
        from mlflow.exceptions import MlflowException

        raise MlflowException(
            f"The artifact '{artifact_path}' is damaged: {lost} bytes of it are missing on the "
            "server's disk. Upload it again, or restore it from a backup."
        )


def _missing(path: Path) -> Iterator[Path]:
    """The directories on this path that do not exist yet, the deepest first."""
    while not path.exists() and path.parent != path:
        yield path
        path = path.parent
