"""How long builds take: from an empty cache, after a change in image_files/, without changes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from mlflow_image import command
from mlflow_image.checks.bench.figure import Figure
from mlflow_image.host import rootless
from mlflow_image.paths import HERE, cache
from mlflow_image.progress import Step

CHANGED = Path("image_files/usr/lib/systemd/system/mlflow-configure.service")
NOT_COPIED = (".git", ".venv", "dist", ".mlflow-image", "__pycache__")


def measure(packages: str, step: Step) -> list[Figure]:
    """Build a copy of this checkout with an empty layer cache and all inputs in the store."""
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        copy, cold = Path(name) / "checkout", Path(name) / "cache"
        shutil.copytree(HERE.root, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        cold.mkdir()
        for shared in ("store", "apt", "packer"):
            (cache() / shared).mkdir(parents=True, exist_ok=True)
            (cold / shared).symlink_to(cache() / shared)
        try:
            timed("fetch", copy, cold, packages, step)
            first = timed("build-image", copy, cold, packages, step, "--no-verify")
            disk = manifest(copy)["disk"]["bytes"]
            with (copy / CHANGED).open("a") as file:
                file.write("# changed\n")
            change = timed("build-image", copy, cold, packages, step, "--no-verify")
            nothing = timed("build-image", copy, cold, packages, step, "--no-verify")
        finally:
            rootless.remove(cold)
    limit = 700 if packages == "full" else 450
    return [
        Figure("build from an empty layer cache, inputs in the store", first, "s", at_most=480),
        Figure("build after a change in image_files/", change, "s", at_most=150),
        Figure("build when nothing changed", nothing, "s", at_most=3),
        Figure(
            f"size of the disk in dist/, package set {packages}", disk / 1e6, "MB", at_most=limit
        ),
    ]


def timed(task: str, copy: Path, cold: Path, packages: str, step: Step, *words: str) -> float:
    """How many seconds a task takes in the copy, with the copy's cache."""
    started = time.monotonic()
    options = ["--python", "system", "--packages", packages, *words]
    command.stream(
        [sys.executable, "-m", "invoke", task, *options],
        lambda line: step.update(f"{task}: {line}"),
        cwd=copy,
        env={"MLFLOW_IMAGE_CACHE": str(cold), "PYTHONPATH": str(copy)},
    )
    return time.monotonic() - started


def manifest(copy: Path) -> dict[str, dict[str, float]]:
    loaded: dict[str, dict[str, float]] = json.loads(
        (copy / "dist" / "latest" / "manifest.json").read_text()
    )
    return loaded
