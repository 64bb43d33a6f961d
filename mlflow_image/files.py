"""The one way to write a file: a reader sees all of it or none of it.

A file or folder is made under a temporary name in the folder where it belongs, flushed to
the disk, and renamed. The temporary name is new for every call, so two processes never
share one. Source: rename(2) and fsync(2).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 1 << 20
#: Temporary names begin with a dot and end in this.
SUFFIX = ".new"
PRIVATE = 0o600


def write(path: Path, content: str | bytes) -> None:
    """Write a file, replacing an older one in one step. Raises OSError."""
    with replacing(path) as beside:
        _fill(beside, content)


def write_private(path: Path, content: str | bytes) -> None:
    """As `write`; only the owner may read the file, at every moment. Raises OSError."""
    with replacing(path) as beside:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        _fill(beside, content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside `path`: the body writes a file there, which then replaces `path`.

    When the body raises, the new file is removed and the old one stays as it was.
    """
    beside = temporary_name(path)
    try:
        yield beside
        _flush(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, which becomes `path` when the body ends without an error.

    Raises OSError when `path` exists at the end and is not empty; nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary_name(path)
    beside.mkdir()
    try:
        yield beside
        flush_folder(beside)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _flush(path.parent)


def link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, replacing an older one in one step."""
    beside = temporary_name(path)
    beside.symlink_to(target)
    try:
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def flush_folder(folder: Path) -> None:
    """Write every file of a folder to the disk, so that a power cut cannot shorten it."""
    for found in folder.rglob("*"):
        if found.is_file() and not found.is_symlink():
            _flush(found)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nothing has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{SUFFIX}")


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, as lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _fill(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
