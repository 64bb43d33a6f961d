"""A sealed disk moves into dist/ with everything that describes it, all at once or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mlflow_image.files import hash_file
from mlflow_image.images import manifest
from mlflow_image.images.find import DISK_NAME, LATEST, MANIFEST_NAME, SCHEMA_NAME, Image, in_folder
from mlflow_image.images.manifest import Candidate
from mlflow_image.inputs.wheels import lock_file
from mlflow_image.paths import HERE

SUMS_NAME = "SHA256SUMS"


def existing(name: str, must_be_verified: bool) -> Image | None:
    """The image of this name, if it is there already, made the newest again."""
    folder = HERE.dist / name
    if not (folder / MANIFEST_NAME).is_file():
        return None
    verified = manifest.read(folder).get("verification", {}).get("result") == "passed"
    if must_be_verified and not verified:
        return None
    point_latest_at(folder)
    return in_folder(folder)


def into_dist(candidate: Candidate, logs: dict[str, Path]) -> Image:
    """Make dist/<id>/ of a candidate and point dist/latest at it; returns the image.

    A folder that is there already is never rewritten, except that a verification is
    recorded in it. logs: name -> folder that is copied into logs/.
    """
    target = HERE.dist / candidate.manifest["image"]
    if target.exists():
        record_verification(target, candidate.manifest["verification"])
    else:
        beside = HERE.dist / f".{target.name}.{os.getpid()}"
        shutil.rmtree(beside, ignore_errors=True)
        (beside / "logs").mkdir(parents=True)
        try:
            link_or_copy(candidate.disk, beside / DISK_NAME)
            schema = json.dumps(manifest.settings_schema(), indent=1)
            (beside / SCHEMA_NAME).write_text(schema + "\n")
            python = candidate.manifest["python"]["version"]
            shutil.copyfile(lock_file(python), beside / lock_file(python).name)
            for name, folder in logs.items():
                if folder.is_dir():
                    shutil.copytree(folder, beside / "logs" / name)
            manifest.write(beside, candidate.manifest)
            write_sums(beside)
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    point_latest_at(target)
    return in_folder(target)


def record_verification(folder: Path, verification: dict[str, Any]) -> None:
    """Mark the manifest of an image with what verification said, if there was one."""
    content = manifest.read(folder)
    if verification["result"] != "not run" and content.get("verification") != verification:
        manifest.write(folder, {**content, "verification": verification})
        write_sums(folder)


def write_sums(folder: Path) -> None:
    """SHA256SUMS over the folder's files, as `sha256sum --check` reads it; logs are not in it."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    lines = [f"{hash_file(folder / name)}  {name}" for name in names if name != SUMS_NAME]
    beside = folder / f".{SUMS_NAME}.new"
    beside.write_text("\n".join(lines) + "\n")
    beside.replace(folder / SUMS_NAME)


def link_or_copy(source: Path, target: Path) -> None:
    """The same file where the filesystem allows it, else a copy; both are never written again."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def point_latest_at(folder: Path) -> None:
    """dist/latest -> folder, replaced in one step."""
    beside = HERE.dist / f".{LATEST}.{os.getpid()}"
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder.name)
    beside.replace(HERE.dist / LATEST)
