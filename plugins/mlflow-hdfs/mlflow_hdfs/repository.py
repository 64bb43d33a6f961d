"""MLflow's artifact repository for `hdfs:` and `viewfs:` addresses.

A file gets its name when all of it is there; a download that breaks goes on where it stopped; what
a cluster may mend by itself (a fail-over, safe mode, a datanode that restarts) is waited for.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hdfs_native import WriteOptions
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from mlflow_hdfs import connection, faults

_T = TypeVar("_T")
PIECE_BYTES = 4 << 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
#: A namenode that stops hangs up once; one that wants Kerberos each time.
_HANG_UPS = 4
#: How a file is called until all of it is there; as `hdfs dfs -put` does.
UNFINISHED = "._COPYING_"
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}\Z")
#: Members of a folder's group may delete what others have written, as MLflow's server must.
FOLDER_MODE = 0o775


class HdfsArtifactRepository(ArtifactRepository):
    """Artifacts below one address. Raises MlflowException with cause and remedy (faults.py)."""

    def __init__(self, artifact_uri: str, *positional: Any, **named: Any) -> None:
        super().__init__(artifact_uri, *positional, **named)  # MLflow 2 takes the address alone
        self._address, self._root = connection.parts(artifact_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file."""
        verify_artifact_path(artifact_path)
        folder = self._at(artifact_path)
        self._make_folder(folder)
        self._upload(local_file, posixpath.join(folder, Path(local_file).name))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload a folder with everything below it."""
        verify_artifact_path(artifact_path)
        base = self._at(artifact_path)
        for found, _, names in os.walk(local_dir):
            folder = posixpath.join(base, *Path(found).relative_to(local_dir).parts)
            self._make_folder(folder)
            for name in names:
                self._upload(str(Path(found, name)), posixpath.join(folder, name))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """The files and folders of one folder, by name; none for a file, or where nothing is."""
        place = self._at(path)
        try:
            found = self._patiently(place, lambda: list(self._client.list_status(place)))
        except FileNotFoundError:
            return []
        above = "/" if place == "/" else f"{place}/"
        start = len(self._root.rstrip("/")) + 1
        infos = []
        for one in found:
            path, folder = one.path, one.isdir  # each costs a call of the library
            # The list of a file is the file itself.
            if path.startswith(above) and not _UNFINISHED.search(path):
                infos.append(FileInfo(path[start:], folder, None if folder else one.length))
        return sorted(infos, key=lambda info: str(info.path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or a folder with everything below it; nothing there is no error."""
        place = self._at(artifact_path)
        try:
            self._patiently(place, lambda: self._client.delete(place, recursive=True))
        except FileNotFoundError:
            return

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        """Download a file; one that breaks off goes on where it stopped. A failure leaves none."""
        place = self._at(remote_file_path)
        version: list[object] = []
        try:
            with Path(local_path).open("wb") as output:
                while not self._patiently(
                    place, lambda: self._continue(place, output, version), progress=output.tell
                ):
                    pass
        except BaseException as error:
            Path(local_path).unlink(missing_ok=True)
            if isinstance(error, FileNotFoundError):
                raise faults.as_mlflow(error, self._address + place) from error
            raise

    def _continue(self, place: str, output: Any, version: list[object]) -> bool:
        """Append what the local file does not have yet; all of it when another one came meanwhile.

        version: of the file that the last attempt has read, if there was one. Returns whether the
        file stayed the same until its end.
        """
        reader = self._client.read(place)
        now = self._version(place)
        if version != now:
            version[:] = now
            output.seek(0)
            output.truncate()
        done = output.tell()
        for piece in reader.read_range_stream(done, len(reader) - done):
            output.write(piece)
        if self._version(place) == now:
            return True
        version.clear()
        return False

    def _version(self, place: str) -> list[object]:
        """What differs between two files of one name."""
        status = self._client.get_file_info(place)
        return [status.length, status.modification_time]

    def _upload(self, local_file: str, place: str) -> None:
        unfinished: list[str] = []
        with Path(local_file).open("rb") as source:
            try:
                self._patiently(place, lambda: self._copy(source, place, unfinished))
            except FileNotFoundError as error:
                raise faults.as_mlflow(error, self._address + place) from error
            finally:
                self._forget(unfinished)

    def _copy(self, source: Any, place: str, unfinished: list[str]) -> None:
        """Write a file under another name, and give it its own when it is complete.

        unfinished: the names of attempts that are not; each is new, for HDFS may still hold it.
        """
        source.seek(0)
        name = f"{place}.{secrets.token_hex(4)}{UNFINISHED}"
        unfinished.append(name)
        writer = self._client.create(name, WriteOptions(overwrite=True))
        try:
            for piece in _pieces(source):
                writer.write(piece)
            writer.close()
        except Exception as error:
            if faults.kind_of(error).name == "unreachable":
                raise faults.NoDatanodeError(str(error)) from error
            raise
        version = self._version(name)
        try:
            self._client.rename(name, place, overwrite=True)
        except FileNotFoundError:
            # A request may be repeated whose answer was lost: the first may have renamed it, which
            # keeps the time.
            if self._version(place) != version:
                raise
        unfinished.remove(name)

    def _forget(self, unfinished: list[str]) -> None:
        for name in unfinished:
            with contextlib.suppress(Exception):  # the fault itself is raised
                self._client.delete(name)

    def _make_folder(self, folder: str) -> None:
        self._patiently(
            folder, lambda: self._client.mkdirs(folder, FOLDER_MODE, create_parent=True)
        )

    def _patiently(
        self, place: str, action: Callable[[], _T], progress: Callable[[], int] = lambda: 0
    ) -> _T:
        """Do it, again while a fault may pass by itself. Raises FileNotFoundError as it is.

        progress: grows while the action comes nearer to its end; then the patience begins anew.
        """
        since_s, reached, pause_s, hang_ups = 0.0, -1, _FIRST_PAUSE_S, 0
        while True:
            try:
                return action()
            except (FileNotFoundError, MlflowException):
                raise
            except Exception as error:
                if _is_local(error):
                    raise
                kind = faults.kind_of(error)
                if (now := progress()) > reached:
                    since_s, reached, pause_s = time.monotonic(), now, _FIRST_PAUSE_S
                hang_ups = hang_ups + 1 if kind.name == "not-kerberos" else 0
                over = time.monotonic() - since_s >= patience_s() or hang_ups == _HANG_UPS
                if over or not kind.transient:
                    raise faults.as_mlflow(error, self._address + place) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _at(self, path: str | None) -> str:
        return posixpath.join(self._root, path) if path else self._root

    @property
    def _client(self) -> Any:
        return connection.client(self._address)


def _pieces(source: Any) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        yield piece


def patience_s() -> float:
    """How long a fault that may pass is waited for, in seconds."""
    return float(os.environ.get("MLFLOW_HDFS_PATIENCE_S") or "120")


def _is_local(error: Exception) -> bool:
    """Whether this machine's own files are at fault: the library's errors have no number."""
    return isinstance(error, OSError) and error.errno is not None
