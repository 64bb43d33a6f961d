"""Programs built from the Go module proxy once, and kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from mlflow_image.paths import cache

BUILD_S = 900


def built(module: str) -> Path | None:
    """The program of MODULE@VERSION, built if need be; None where it cannot be built."""
    path, _, version = module.partition("@")
    name = path.rpartition("/")[2]
    place = cache() / "peers" / f"{name}-{version}" / name
    if not place.exists():
        if not shutil.which("go"):
            return None
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / "lock"):
            if not place.exists():
                subprocess.run(
                    ["go", "install", module],
                    env={**os.environ, "GOBIN": str(place.parent)},
                    capture_output=True,
                    timeout=BUILD_S,
                    check=False,
                )
    return place if place.exists() else None
