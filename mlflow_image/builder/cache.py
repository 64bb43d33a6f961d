"""Bounds the cache: removes old and excess entries, never one that a VM or a build uses."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlflow_image import files, progress
from mlflow_image.builder import layers
from mlflow_image.builder.place import KEPT_NAME, scratch
from mlflow_image.host import processes, rootless
from mlflow_image.paths import HERE, Checkout, cache

LIMIT_BYTES = 30 * 10**9
MAX_AGE_S = 60 * 24 * 3600
DAY_S = 24 * 3600
LOG_AGE_S = 14 * DAY_S
VM_ENDS_WITHIN_S = 10


@dataclass(frozen=True)
class Entry:
    """A removable entry: a layer, a stored file, or programs that were built here."""

    path: Path
    bytes: int
    used_at: float


def bound(
    keep: Iterable[Path],
    *,
    limit_bytes: int = LIMIT_BYTES,
    max_age_s: float = MAX_AGE_S,
    checkout: Checkout = HERE,
) -> list[Entry]:
    """Remove what crashed builds left, then old entries, then the least recently used ones.

    keep: files that must stay, with every layer below them. A file that is linked into dist/
    too takes its space once and is counted once. Returns the removed entries.
    """
    remove_leftovers(checkout)
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
    # Names with a dot are not complete yet. packer/go belongs to a build of Packer.
    folders = [p for kind in kinds for p in (cache() / kind).glob("[!.]*") if p.is_dir()]
    folders = [path for path in folders if path != cache() / "packer" / "go"]
    stored = (cache() / "store" / "sha256").glob("*/[!.]*")
    found = []
    for path in (*folders, *stored):
        with contextlib.suppress(FileNotFoundError):  # another command has removed it
            found.append(entry_of(path))
    return found


def entry_of(path: Path) -> Entry:
    """Size on disk and last use, which is when a build last claimed it.

    Access times are useless here: every plan reads the records of all layers, and a file
    system may not store access times.
    """
    stat = path.lstat()
    if path.is_file():
        return Entry(path.resolve(), stat.st_blocks * 512, stat.st_mtime)
    stats = [file.lstat() for file in path.rglob("*") if file.is_file()] or [stat]
    size_bytes = sum(stat.st_blocks * 512 for stat in stats)
    return Entry(path.resolve(), size_bytes, max(stat.st_mtime for stat in stats))


def with_parents(paths: set[Path]) -> set[Path]:
    """The files, and the records of all layers below the layers that they belong to."""
    by_key = {
        record["key"]: folder
        for folder in (cache() / "layers").glob("*")
        if (record := layers.read_record(folder))
    }
    found = set(paths)
    for file in paths:
        record = layers.read_record(file.parent)
        while record and (parent := by_key.get(record["parts"].get("parent", ""))):
            found.add((parent / layers.RECORD_NAME).resolve())
            record = layers.read_record(parent)
    return found


def remove_leftovers(checkout: Checkout = HERE) -> None:
    """Remove scratch folders of ended builds, unfinished downloads and images, old logs."""
    for folder in scratch().glob("[!.]*"):
        if not processes.was_abandoned(folder):
            if not processes.has_living_owner(folder):  # it names none
                remove_older([folder], DAY_S)
            continue
        left = vms_in(folder)
        if left and (folder / KEPT_NAME).exists():
            continue  # by --on-error=abort, for inspection
        for vm in left:
            progress.say(f"ending the build VM that a killed build left (pid {vm.pid})")
            with contextlib.suppress(psutil.NoSuchProcess):
                vm.kill()
                vm.wait(VM_ENDS_WITHIN_S)
        rootless.remove(folder)
    remove_older((cache() / "store" / "incoming").glob("*"), DAY_S)
    unfinished = f".*{files.SUFFIX}"
    for folder in (scratch(), checkout.dist, cache() / "packer", cache() / "native"):
        remove_older(folder.glob(unfinished), DAY_S)
    for folder in (cache() / "store", cache() / "apt"):
        remove_older(folder.rglob(unfinished), DAY_S)
    remove_older((checkout.state / "logs").glob("*"), LOG_AGE_S)


def remove_older(paths: Iterable[Path], age_s: float) -> None:
    """Remove what was not written for so long."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # another command has removed it
            if time.time() - path.lstat().st_mtime > age_s:
                rootless.remove(path)


def vms_in(folder: Path) -> list[psutil.Process]:
    """The QEMU processes whose command line names files of a scratch folder: its build VM."""
    place = f"{folder}/"
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ("",)
        if "qemu-system" in words[0] and any(place in word for word in words):
            found.append(process)
    return found


@contextlib.contextmanager
def claim(paths: Iterable[Path]) -> Iterator[None]:
    """Keep other commands from removing these files until the end.

    The files may not exist yet. A claim ends with its process, even after kill -9.
    """
    wanted = [path.resolve() for path in paths]
    for path in wanted:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
    here = processes.this_process()
    note = cache() / "claims" / f"{here.pid}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    content = {"started": here.started, "paths": [str(path) for path in wanted]}
    files.write(note, json.dumps(content))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def claimed() -> set[Path]:
    """The files that running builds have claimed; removes the notes of ended builds."""
    found: set[Path] = set()
    for note in (cache() / "claims").glob("*.json"):
        try:
            known = json.loads(note.read_text())
            owner = processes.Process(int(note.stem), str(known["started"]))
            paths = {Path(path) for path in known["paths"]}
        except FileNotFoundError:  # its build has ended
            continue
        except (OSError, ValueError, KeyError, TypeError):
            progress.warn(f"{note} was damaged and has been removed")
            note.unlink(missing_ok=True)
            continue
        if processes.is_alive(owner):
            found |= paths
        else:
            note.unlink(missing_ok=True)
    return found
