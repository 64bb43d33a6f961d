"""Which images exist: folders of dist/, the newest, and single disks that a user names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_image.errors import Refusal
from mlflow_image.paths import HERE, typed_path

LATEST = "latest"
DISK_NAME = "disk.qcow2"
SCHEMA_NAME = "settings-schema.json"
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Image:
    """A disk to boot: from dist/, with its manifest and settings schema, or a bare file."""

    id: str
    directory: Path
    disk: Path
    schema: Path | None

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the image; empty for a bare disk."""
        file = self.directory / MANIFEST_NAME
        if self.schema is None or not file.is_file():
            return {}
        loaded: dict[str, Any] = json.loads(file.read_text())
        return loaded

    @property
    def login(self) -> str:
        """The user that the image's cloud-init makes."""
        return login_of(self.manifest)


def login_of(manifest: dict[str, Any]) -> str:
    """The user that cloud-init makes, named like the distribution; `ubuntu` if unknown."""
    return "debian" if str(manifest.get("os", "")).startswith("debian") else "ubuntu"


def resolve(name: str | None = None) -> Image:
    """The image that a user means: an id or a unique beginning of one, a folder, a disk file.

    Without a name: the newest. Raises Refusal when there is none or more than one.
    """
    if name is None:
        latest = HERE.dist / LATEST
        if not latest.exists():
            raise Refusal(
                "there is no image yet", remedy="`invoke build-image` makes one, or name --image"
            )
        return in_folder(latest.resolve())
    path = typed_path(name)
    if os.path.isdir(path):  # noqa: PTH112 - is_dir() raises for a name that is too long
        return in_folder(path.resolve())
    if os.path.isfile(path):  # noqa: PTH113
        return Image(path.name, path.resolve().parent, path.resolve(), None)
    # A promotion that is under way, or was killed, has a folder with a dot.
    folders = sorted(file.parent for file in HERE.dist.glob("[!.]*/" + MANIFEST_NAME))
    found = [folder for folder in folders if matches(folder.name, name)]
    if len(found) == 1:
        return in_folder(found[0])
    known = ", ".join(folder.name for folder in folders if folder.name != LATEST)
    raise Refusal(
        f"--image {name}: {'several images are' if found else 'no image or file is'} called so",
        remedy=f"one of: {known}" if known else "`invoke build-image` makes one",
    )


def matches(folder: str, name: str) -> bool:
    """Whether a folder of dist/ is meant: its whole name, or how its build id begins."""
    return folder != LATEST and (folder == name or folder.rpartition("-")[2].startswith(name))


def in_folder(folder: Path) -> Image:
    """The image of a folder of dist/; raises Refusal when it holds none."""
    disk, schema = folder / DISK_NAME, folder / SCHEMA_NAME
    if not disk.is_file():
        raise Refusal(
            f"{folder} holds no {DISK_NAME}", remedy="name a folder of dist/, an id or a disk file"
        )
    return Image(folder.name, folder, disk, schema if schema.is_file() else None)
