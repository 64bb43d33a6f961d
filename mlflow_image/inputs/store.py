"""Content-addressed cache of input files: a sha256 goes in, a verified file comes out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from filelock import FileLock, Timeout

from mlflow_image.errors import Failure
from mlflow_image.files import CHUNK_BYTES, hash_file

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60

#: Called with (bytes so far, bytes in all or 0 when unknown).
OnBytes = Callable[[int, int], None]


class Store:
    """Files under their sha256 below `root`; safe for several builds at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str) -> Path:
        """Where a file with this hash lies, whether or not it is there."""
        return self.root / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def verified(self, sha256: str, name: str) -> Path:
        """The file with this hash, hashed again now.

        Raises Failure, naming the entry, when it is missing or was tampered with; a
        wrong entry is removed, so that the next fetch brings the right one.
        """
        path = self.path(sha256)
        if not path.is_file():
            raise Failure(f"{name} ({sha256[:12]}…) is not in the store", remedy="`invoke fetch`")
        found = hash_file(path)
        if found != sha256:
            path.unlink()
            raise Failure(
                f"the store's copy of {name} was altered: it hashes to {found}, not {sha256}",
                remedy="it was removed; `invoke fetch` brings it again",
            )
        return path

    def intact(self, sha256: str) -> bool:
        """Whether the file is there with the right bytes; a wrong one is removed."""
        path = self.path(sha256)
        if not path.is_file():
            return False
        if hash_file(path) == sha256:
            return True
        path.unlink()
        return False

    def add(self, file: Path, sha256: str, name: str) -> Path:
        """Move a file in if its hash is the right one; raises Failure naming it otherwise."""
        found = hash_file(file)
        if found != sha256:
            file.unlink()
            raise Failure(
                f"{name} has the wrong sha256: {found}, where {sha256} is pinned",
                remedy="the file was refused; try again; `invoke lock` pins wheels anew",
            )
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.chmod(0o644)
        if file.stat().st_dev == target.parent.stat().st_dev:
            file.replace(target)
        else:
            with self.incoming() as folder:
                shutil.copyfile(file, folder / "file")
                (folder / "file").replace(target)
            file.unlink()
        return target

    def fetch(self, url: str, sha256: str, name: str, on_bytes: OnBytes | None = None) -> Path:
        """The file with this hash, downloaded from `url` unless it is there already.

        Raises Failure naming file and address when the download fails, is cut short or
        brings other bytes than the hash promises.
        """
        with self.locked(sha256):
            if self.intact(sha256):
                return self.path(sha256)
            with self.incoming() as folder:
                download(url, folder / "file", name, on_bytes)
                return self.add(folder / "file", sha256, name)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder on the store's own filesystem for files on their way in."""
        parent = self.root / "incoming"
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            yield Path(folder)

    @contextmanager
    def locked(self, name: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """One holder at a time among all builds of this user; `on_wait` is called before a wait."""
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


def download(url: str, target: Path, name: str, on_bytes: OnBytes | None = None) -> None:
    """Fetch an address into a file; raises Failure when it fails or is cut short."""
    try:
        with requests.get(
            url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        ) as response:
            response.raise_for_status()
            promised = int(response.headers.get("Content-Length", 0))
            received = 0
            with target.open("wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    received += file.write(chunk)
                    if on_bytes:
                        on_bytes(received, promised)
                os.fsync(file.fileno())
    except requests.RequestException as error:
        raise Failure(
            f"{name} could not be fetched from {url}: {error}",
            remedy="check the network, or fetch it on another machine and `--offline`",
        ) from error
    if promised and received != promised:
        raise Failure(
            f"the download of {name} was cut short: {received} of {promised} bytes from {url}",
            remedy="try again",
        )
