"""Writes files atomically: a reader sees the complete file or none.

A file or folder is created under a temporary name next to its final path, flushed to the
disk, and renamed. Every call uses a new temporary name, so two processes never share one.
Source: rename(2) and fsync(2).
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
    with replacing(path) as temporary:
        _fill(temporary, content)


def write_private(path: Path, content: str | bytes) -> None:
    """Like `write`; at no time can anyone but the owner read the file. Raises OSError."""
    with replacing(path) as temporary:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
        _fill(temporary, content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new name next to `path`: the body writes a file there, which then replaces `path`.

    When the body raises, the new file is removed and the old one stays unchanged.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder next to `path`, which becomes `path` when the body ends without an error.

    Otherwise it is removed. Raises OSError when `path` exists by then and is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        flush_folder(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(path.parent)


def link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, replacing an older one in one step."""
    temporary = temporary_name(path)
    temporary.symlink_to(target)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush every file of a folder to the disk, so that a power cut cannot truncate it."""
    for found in folder.rglob("*"):
        if not found.is_symlink() and (found.is_file() or found.is_dir()):
            _flush(found)


def temporary_name(path: Path) -> Path:
    """An unused name next to `path`."""
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
