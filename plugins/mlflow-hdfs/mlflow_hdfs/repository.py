"""MLflow's artifact repository for `hdfs:` and `viewfs:` addresses.

A file gets its name when all of it is there; a download that breaks goes on where it stopped; what
a cluster may mend by itself (a fail-over, safe mode, a datanode that restarts) is waited for.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional, TypeVar

from hdfs_native import WriteOptions
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from mlflow_hdfs import connection, faults

_T = TypeVar("_T")
PIECE_BYTES = 4 << 20
#: How long a fault that may pass is waited for, in seconds; of a test, perhaps less.
PATIENCE_S = float(os.environ.get("MLFLOW_HDFS_PATIENCE_S", "120"))
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
#: How a file is called until all of it is there; as `hdfs dfs -put` does.
UNFINISHED = "._COPYING_"
FOLDER_MODE = 0o755


class HdfsArtifactRepository(ArtifactRepository):  # type: ignore[misc]
    """Artifacts below one address. Raises MlflowException with cause and remedy (faults.py)."""

    def __init__(
        self,
        artifact_uri: str,
        tracking_uri: Optional[str] = None,
        registry_uri: Optional[str] = None,
        **more: Any,
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri, **more)
        self._address, self._root = connection.parts(artifact_uri)

    def log_artifact(self, local_file: str, artifact_path: Optional[str] = None) -> None:
        """Upload a file."""
        verify_artifact_path(artifact_path)
        folder = self._at(artifact_path)
        self._make_folder(folder)
        self._upload(local_file, posixpath.join(folder, os.path.basename(local_file)))

    def log_artifacts(self, local_dir: str, artifact_path: Optional[str] = None) -> None:
        """Upload a folder with everything below it."""
        verify_artifact_path(artifact_path)
        base = self._at(artifact_path)
        for found, _, names in os.walk(local_dir):
            below = os.path.relpath(found, local_dir)
            folder = base if below == "." else posixpath.join(base, *below.split(os.sep))
            self._make_folder(folder)
            for name in names:
                self._upload(os.path.join(found, name), posixpath.join(folder, name))

    def list_artifacts(self, path: Optional[str] = None) -> list[FileInfo]:
        """The files and folders of one folder, by name; none for a file, or where nothing is."""
        place = self._at(path)

        def entries() -> list[Any]:
            status = self._client.get_file_info(place)
            return list(self._client.list_status(place)) if status.isdir else []

        try:
            found = self._patiently(place, entries)
        except FileNotFoundError:
            return []
        infos = [
            FileInfo(
                posixpath.relpath(one.path, self._root),
                one.isdir,
                None if one.isdir else one.length,
            )
            for one in found
            if not one.path.endswith(UNFINISHED)
        ]
        return sorted(infos, key=lambda info: str(info.path))

    def delete_artifacts(self, artifact_path: Optional[str] = None) -> None:
        """Delete a file, or a folder with everything below it; nothing there is no error."""
        place = self._at(artifact_path)
        try:
            self._patiently(place, lambda: self._client.delete(place, recursive=True))
        except FileNotFoundError:
            return

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        """Download a file; one that breaks off goes on where it stopped."""
        place = self._at(remote_file_path)
        try:
            with open(local_path, "wb") as output:
                self._patiently(place, lambda: self._continue(place, output))
        except FileNotFoundError as error:
            raise faults.as_mlflow(error, self._address + place) from error

    def _continue(self, place: str, output: Any) -> None:
        """Append what the local file does not have yet."""
        reader = self._client.read(place)
        done = output.tell()
        if done > len(reader):  # it was replaced by a shorter one meanwhile
            output.seek(0)
            output.truncate()
            done = 0
        for piece in reader.read_range_stream(done, len(reader) - done):
            output.write(piece)

    def _upload(self, local_file: str, place: str) -> None:
        unfinished = f"{place}.{secrets.token_hex(4)}{UNFINISHED}"

        def copy() -> None:
            with open(local_file, "rb") as source:
                writer = self._client.create(unfinished, WriteOptions(overwrite=True))
                for piece in _pieces(source):
                    writer.write(piece)
                writer.close()
            self._client.rename(unfinished, place, overwrite=True)

        try:
            self._patiently(place, copy)
        except BaseException:
            self._forget(unfinished)
            raise

    def _forget(self, unfinished: str) -> None:
        try:
            self._client.delete(unfinished)
        except Exception:  # noqa: S110 - the fault itself is raised
            pass

    def _make_folder(self, folder: str) -> None:
        self._patiently(
            folder, lambda: self._client.mkdirs(folder, FOLDER_MODE, create_parent=True)
        )

    def _patiently(self, place: str, action: Callable[[], _T]) -> _T:
        """Do it, again while a fault may pass by itself. Raises FileNotFoundError as it is."""
        deadline_s, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            try:
                return action()
            except FileNotFoundError:
                raise
            except Exception as error:
                if not faults.kind_of(error).transient or time.monotonic() > deadline_s:
                    raise faults.as_mlflow(error, self._address + place) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _at(self, path: Optional[str]) -> str:
        return posixpath.join(self._root, path) if path else self._root

    @property
    def _client(self) -> Any:
        return connection.client(self._address)


def _pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        yield piece
