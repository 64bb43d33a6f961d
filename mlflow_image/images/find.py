"""Which images exist: folders of dist/, the newest, and single disk files that a user names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import manifest
from mlflow_image.images.manifest import DISK_NAME, MANIFEST_NAME, ImageId, Manifest
from mlflow_image.paths import HERE, Checkout, typed_path

LATEST = "latest"
#: What people who log to a server install: the wheel of the plugin for HDFS.
CLIENTS_NAME = "clients"
SCHEMA_NAME = "settings-schema.json"
#: The code of the image's cloud-init, with the names of its users and groups.
CLOUD_INIT_NAME = "cloud-init.zip"
#: Of a bare disk file, about which nothing else is known.
DEFAULT_LOGIN = "ubuntu"


@dataclass(frozen=True)
class Image:
    """A disk to boot: from dist/, with its manifest and settings schema, or a bare file."""

    id: str
    directory: Path
    disk: Path
    schema: Path | None

    @property
    def manifest(self) -> Manifest | None:
        """What is known of the image; None for a bare disk. Raises Refusal for a broken file."""
        return manifest.read(self.directory) if self.schema else None

    @property
    def cloud_init(self) -> Path | None:
        """The archive with its cloud-init; None for a bare disk and for an older image."""
        file = self.directory / CLOUD_INIT_NAME
        return file if self.schema and file.is_file() else None

    @property
    def login(self) -> str:
        """The user that the image's cloud-init creates."""
        known = self.manifest
        return known.login if known else DEFAULT_LOGIN


def resolve(name: str | None = None, checkout: Checkout = HERE) -> Image:
    """The image that a user means: an id or a unique beginning of its build, a folder, a file.

    Without a name: the newest. Raises Refusal when no image or several images match.
    """
    if name is None:
        latest = checkout.dist / LATEST
        if not latest.exists():
            raise Refusal(
                "there is no image yet", remedy="run `invoke build-image`, or name --image"
            )
        return in_folder(latest.resolve())
    path = typed_path(name)
    if os.path.isdir(path):  # noqa: PTH112 - is_dir() raises for a name that is too long
        return in_folder(path.resolve())
    if os.path.isfile(path):  # noqa: PTH113
        if path.name == DISK_NAME and (path.parent / MANIFEST_NAME).is_file():
            return in_folder(path.resolve().parent)
        return Image(path.name, path.resolve().parent, path.resolve(), None)
    known = every(checkout)
    found = [folder for image, folder in known.items() if image.matches(name)]
    if len(found) == 1:
        return in_folder(found[0])
    choices = ", ".join(map(str, known))
    raise Refusal(
        f"--image {name} matches {'several images' if found else 'no image and no file'}",
        remedy=f"use one of: {choices}" if choices else "run `invoke build-image`",
    )


def newest() -> Image | None:
    """The newest image; None when there is none."""
    try:
        return resolve()
    except Failure:
        return None


def every(checkout: Checkout = HERE) -> dict[ImageId, Path]:
    """Id -> folder of every image in dist/; other folders there are ignored."""
    found = {}
    for file in sorted(checkout.dist.glob(f"*/{MANIFEST_NAME}")):
        try:
            found[ImageId.parse(file.parent.name)] = file.parent
        except ValueError:  # `latest`, or a folder that is not complete yet
            continue
    return found


def in_folder(folder: Path) -> Image:
    """The image in a folder; raises Refusal when it has no disk."""
    disk, schema = folder / DISK_NAME, folder / SCHEMA_NAME
    if not disk.is_file():
        raise Refusal(
            f"{folder} has no {DISK_NAME}", remedy="name a folder of dist/, an id or a disk file"
        )
    return Image(folder.name, folder, disk, schema if schema.is_file() else None)
