"""Layers in the cache: which one is finished, how long it took, what differs from it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        return (self.directory / RECORD_NAME).is_file()

    def record(self, seconds: float, phases: list[tuple[str, float]]) -> dict[str, Any]:
        """What is stored with the layer: the parts of its key, and how long it took."""
        return {
            "name": self.name,
            "key": self.key,
            "parts": self.parts,
            "seconds": round(seconds, 1),
            "phases": [[title, round(s, 1)] for title, s in phases],
            "made_at": time.time(),
        }


def read_record(directory: Path) -> dict[str, Any] | None:
    """The record of a finished layer, or None."""
    try:
        loaded: dict[str, Any] = json.loads((directory / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return None
    return loaded


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
