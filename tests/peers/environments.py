"""Python environments of clients: any Python that is here, with packages that a file pins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from mlflow_image import paths
from mlflow_image.inputs import wheels

UV = Path(sys.executable).with_name("uv")


def uv(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run uv with this host's own index of packages."""
    line = [str(word) for word in (UV, *words)]
    variables = {**os.environ, **wheels.uv_environment()}
    done = subprocess.run(line, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def interpreter(version: str) -> str:
    """A Python of this version that is here; "" when there is none."""
    # pyenv's shims answer for versions that they then do not run.
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for found in sorted(installed.glob(f"{version}.*/bin/python")):
        return str(found)
    words = ("python", "list", "--only-installed", "--output-format", "json", version)
    done = uv(*words, check=False)
    listed = json.loads(done.stdout) if done.returncode == 0 and done.stdout else []
    return str(listed[0]["path"]) if listed else ""


def of_lock(lock: Path, python: str = sys.executable) -> Path:
    """The environment with the packages of a lock file (with hashes), in the user's cache.

    Made once for each lock file and Python. Returns its folder.
    """
    key = hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()[:16]
    place = paths.cache() / "native" / f"{lock.stem}-{key}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / f"{place.name}.lock"):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            uv("venv", "--quiet", "--no-project", "--python", python, place)
            words = ("--quiet", "--require-hashes", "--python", place / "bin" / "python")
            uv("pip", "install", *words, "-r", lock)
        (place / "complete").touch()  # the cache removes the least recently used first
    return place
