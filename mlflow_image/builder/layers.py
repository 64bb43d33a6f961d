"""Layers in the cache: which one is finished, how long it took, what differs from it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_image.builder.bake.layer import TREE_NAME
from mlflow_image.files import hash_file
from mlflow_image.paths import cache

RECORD_NAME = "layer.json"


@dataclass(frozen=True)
class Layer:
    """One step from apt to the sealed disk; `parts` is everything that decides its content."""

    name: str
    title: str
    parts: dict[str, str] = field(hash=False)

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    @property
    def directory(self) -> Path:
        return cache() / "layers" / f"{self.name}-{self.key[:16]}"

    @property
    def built(self) -> bool:
        """Whether the layer is in the cache, and intact as far as size and time of files show."""
        return self.directory.is_dir() and not self.damage

    @property
    def damage(self) -> str:
        """What is wrong with the layer's folder in the cache; empty when it is intact or absent."""
        if not self.directory.is_dir():
            return ""
        record = read_record(self.directory)
        if record is None:
            return f"{RECORD_NAME} is missing or damaged"
        for name, known in record.get("files", {}).items():
            try:
                found = (self.directory / name).stat()
            except OSError:
                return f"{name} is missing"
            if (found.st_size, found.st_mtime_ns) != (known["bytes"], known["mtime_ns"]):
                return f"{name} was changed"
        return ""

    @property
    def tree_is_altered(self) -> bool:
        """Whether the tree has other bytes than when it was made; reads all of it."""
        record = read_record(self.directory) or {}
        known = record.get("files", {}).get(TREE_NAME, {}).get("sha256")
        return bool(known) and hash_file(self.directory / TREE_NAME) != known

    def record(
        self, seconds: float, phases: list[tuple[str, float]], folder: Path | None = None
    ) -> dict[str, Any]:
        """What is stored with the layer: its key's parts, its time, what its files were.

        folder: with the layer's files.
        """
        return {
            "name": self.name,
            "key": self.key,
            "parts": self.parts,
            "seconds": round(seconds, 1),
            "phases": [[title, round(s, 1)] for title, s in phases],
            "made_at": time.time(),
            "files": files_of(folder) if folder else {},
        }


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and time of every file of a layer except its record, and the sha256 of the tree."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.name != RECORD_NAME):
        stat = path.stat()
        found[path.name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        if path.name == TREE_NAME:
            found[path.name]["sha256"] = hash_file(path)
    return found


def read_record(directory: Path) -> dict[str, Any] | None:
    """The record of a finished layer; None when it is missing or damaged."""
    try:
        loaded: Any = json.loads((directory / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(loaded, dict) and {"key", "parts", "seconds", "made_at"} <= loaded.keys()
    return loaded if whole else None


def records(name: str) -> list[dict[str, Any]]:
    """The records of all finished layers of this name, newest first."""
    folders = (cache() / "layers").glob(f"{name}-*")
    found = [record for folder in folders if (record := read_record(folder))]
    return sorted(found, key=lambda record: float(record["made_at"]), reverse=True)


def nearest(layer: Layer) -> dict[str, Any] | None:
    """The record of the most similar finished layer of this name, the newest of several."""
    return min(records(layer.name), key=lambda record: len(differing(layer, record)), default=None)


def differing(layer: Layer, record: dict[str, Any]) -> list[str]:
    """The names of the parts in which a layer differs from a finished one, sorted."""
    old = record["parts"]
    return sorted(
        key for key in old.keys() | layer.parts.keys() if old.get(key) != layer.parts.get(key)
    )


def expected_seconds(layer: Layer) -> float | None:
    """How long the most similar finished layer took, in seconds; None without one."""
    known = nearest(layer)
    return float(known["seconds"]) if known else None


def reasons(layer: Layer) -> list[str]:
    """What differs from the most similar finished layer of this name: `part: old -> new`."""
    known = nearest(layer)
    if not known:
        return ["never built here"]
    old = known["parts"]
    return [
        "the layer below it changes"
        if key == "parent"
        else f"{key}: {old.get(key, '(none)')} -> {layer.parts.get(key, '(gone)')}"
        for key in differing(layer, known)
    ]
