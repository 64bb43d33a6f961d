"""Keeps the cache bounded: removes what is old or too much, never what something stands on."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlflow_image.builder import layers
from mlflow_image.host import processes, rootless
from mlflow_image.paths import HERE, cache

LIMIT_BYTES = 30 * 10**9
MAX_AGE_S = 60 * 24 * 3600
LOG_AGE_S = 14 * 24 * 3600


@dataclass(frozen=True)
class Entry:
    """Something that can be removed: a layer, a stored file, programs that were built here."""

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
    kept = with_parents({path.resolve() for path in keep} | claimed())
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
    """Every layer and stored file of the cache, and every program that was built into it."""
    kinds = ("layers", "native", "packer")
    folders = [p for kind in kinds for p in (cache() / kind).glob("*") if p.is_dir()]
    files = (cache() / "store" / "sha256").glob("*/*")
    found = []
    for path in (*folders, *files):
        with contextlib.suppress(FileNotFoundError):  # another command removed it just now
            found.append(entry_of(path))
    return found


def entry_of(path: Path) -> Entry:
    """Size on disk and last use, which is when a build last claimed it.

    Access times say nothing: every plan reads the records of all layers, and a file
    system may not keep any.
    """
    stat = path.lstat()
    if path.is_file():
        return Entry(path.resolve(), stat.st_blocks * 512, stat.st_mtime)
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
    for place in ((cache() / "store" / "incoming"), HERE.state / "logs"):
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


@contextlib.contextmanager
def claim(paths: Iterable[Path]) -> Iterator[None]:
    """Note that these files are used now; until the end no other command removes them.

    Some may not be there yet. A claim ends with its process, however that ends.
    """
    wanted = [path.resolve() for path in paths]
    for path in wanted:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
    here = processes.Process(os.getpid(), processes.start_time(os.getpid()) or "")
    note = cache() / "claims" / f"{here.pid}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    beside = note.with_suffix(".new")
    beside.write_text(
        json.dumps({"started": here.started, "paths": [str(path) for path in wanted]})
    )
    beside.replace(note)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def claimed() -> set[Path]:
    """What the running builds have claimed; the notes of ended ones are removed."""
    found: set[Path] = set()
    for note in (cache() / "claims").glob("*.json"):
        try:
            known = json.loads(note.read_text())
        except FileNotFoundError:  # its build ended just now
            continue
        if processes.is_alive(processes.Process(int(note.stem), known["started"])):
            found |= {Path(path) for path in known["paths"]}
        else:
            note.unlink(missing_ok=True)
    return found
