"""A content-addressed cache of input files: each file is stored under its sha256."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlflow_image.errors import Failure
from mlflow_image.files import hash_file, replacing
from mlflow_image.inputs.download import OnBytes, download


class Store:
    """Files under their sha256 below `root`; several builds can use it at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """The path of the file with this hash, whether or not the store has it."""
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether the file exists; its content is not checked."""
        return self.path(sha256).is_file()

    def verified(self, sha256: str, name: str) -> Path:
        """The path of the file with this hash, after hashing it again.

        Raises Failure naming the file when it is missing or was altered; an altered file is
        removed, so that the next fetch downloads it again.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise Failure(
                f"{name} ({sha256[:12]}…) is not in the store", remedy="run `invoke fetch`"
            )
        found = hash_file(path)
        if found != sha256:
            path.unlink(missing_ok=True)
            raise Failure(
                f"the store's copy of {name} was altered: its sha256 is {found}, not {sha256}",
                remedy="the copy was removed; run `invoke fetch` to download it again",
            )
        return path

    def intact(self, sha256: str) -> bool:
        """Whether the file exists with the right content; an altered file is removed."""
        path = self.path(sha256)
        if not path.is_file():
            return False
        if hash_file(path) == sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def add(self, file: Path, sha256: str, name: str) -> Path:
        """Move a file into the store and return its new path.

        Raises Failure naming it, and removes it, when it has another hash.
        """
        found = hash_file(file)
        if found != sha256:
            file.unlink()
            raise Failure(
                f"{name} has the wrong sha256: {found}; the pinned one is {sha256}",
                remedy="the file was rejected; try again, or run `invoke lock` to pin new wheels",
            )
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o644)
        with replacing(target) as temporary:
            shutil.move(file, temporary)
        return target

    def fetch(self, url: str, sha256: str, name: str, on_bytes: OnBytes | None = None) -> Path:
        """The path of the file with this hash; it is downloaded when the store lacks it.

        Raises Failure naming file and URL when the download fails or has another hash.
        """
        with self.locked(sha256):
            if self.intact(sha256):
                return self.path(sha256)
            with self.incoming() as folder:
                download(url, folder / "file", name, on_bytes)
                return self.add(folder / "file", sha256, name)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A temporary folder on the store's file system, for files that are being fetched."""
        parent = self.root / "incoming"
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)

    @contextmanager
    def locked(self, name: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold a lock among all builds of this user.

        on_wait: called once, before waiting for another holder.
        """
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait:
                on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
