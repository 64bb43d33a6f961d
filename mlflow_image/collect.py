"""Keeps the cache bounded: removes what is old or too much, never what something stands on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlflow_image import layers, rootless
from mlflow_image.paths import STATE, cache

LIMIT_BYTES = 30 * 10**9
MAX_AGE_S = 60 * 24 * 3600
LOG_AGE_S = 14 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """Something that can be removed: a layer or a stored file."""

    path: Path
    bytes: int
    used_at: float


def collect(
    keep: Iterable[Path], *, limit_bytes: int = LIMIT_BYTES, max_age_s: float = MAX_AGE_S
) -> list[Entry]:
    """Remove what crashed builds left, then old entries, then the least recently used ones.

    keep: files that must stay, with every layer below them; a file that is also linked
    into dist/ costs nothing twice and is counted once. Returns what was removed.
    """
    remove_leftovers()
    kept = with_parents({path.resolve() for path in keep})
    entries = sorted(all_entries(), key=lambda entry: entry.used_at)
    total = sum(entry.bytes for entry in entries)
    removed = []
    for entry in entries:
        if entry.path in kept or any(entry.path in path.parents for path in kept):
            continue
        if total <= limit_bytes and time.time() - entry.used_at <= max_age_s:
            continue
        rootless.remove(entry.path)
        total -= entry.bytes
        removed.append(entry)
    return removed


def all_entries() -> list[Entry]:
    """Every layer and every stored file of the cache."""
    folders = [p for p in (cache() / "layers").glob("*") if p.is_dir()]
    files = (cache() / "store" / "sha256").glob("*/*")
    found = []
    for path in (*folders, *files):
        with contextlib.suppress(FileNotFoundError):  # another command removed it just now
            found.append(entry_of(path))
    return found


def entry_of(path: Path) -> Entry:
    """Size on disk and last use: a layer's by `touch`, a stored file's by its last reading.

    A layer's access times say nothing: every plan reads the records of all layers.
    """
    stat = path.lstat()
    if path.is_file():
        return Entry(path.resolve(), stat.st_blocks * 512, max(stat.st_mtime, stat.st_atime))
    stats = [file.lstat() for file in path.rglob("*") if file.is_file()] or [stat]
    size_bytes = sum(stat.st_blocks * 512 for stat in stats)
    return Entry(path.resolve(), size_bytes, max(stat.st_mtime for stat in stats))


def with_parents(files: set[Path]) -> set[Path]:
    """The files, and the records of all layers below those that they belong to."""
    by_key = {
        record["key"]: folder
        for folder in (cache() / "layers").glob("*")
        if (record := layers.read_record(folder))
    }
    found = set(files)
    for file in files:
        record = layers.read_record(file.parent)
        while record and (parent := by_key.get(record["parts"].get("parent", ""))):
            found.add((parent / layers.RECORD_NAME).resolve())
            record = layers.read_record(parent)
    return found


def remove_leftovers() -> None:
    """Scratch folders of builds that are no more, half downloads, old logs."""
    for folder in (cache() / "work").glob("*-*"):
        pid = folder.name.rpartition("-")[2]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))) and not stood_on(folder):
            rootless.remove(folder)
    old = time.time() - LOG_AGE_S
    for place in ((cache() / "store" / "incoming"), STATE / "logs"):
        for path in place.glob("*"):
            age = 24 * 3600 if place.name == "incoming" else LOG_AGE_S
            with contextlib.suppress(FileNotFoundError):  # a download has ended just now
                if path.lstat().st_mtime < max(old, time.time() - age):
                    rootless.remove(path)


def stood_on(folder: Path) -> bool:
    """Whether the VM of a failed bake, kept by --on-error=abort, still runs in a folder."""
    place = f"{folder}/"
    processes = psutil.process_iter(["cmdline"])
    return any(place in word for process in processes for word in process.info["cmdline"] or ())


def touch(folder: Path) -> None:
    """Note that a layer was used now."""
    os.utime(folder / layers.RECORD_NAME)
