"""Moves a sealed disk into dist/ with everything that describes it, all at once or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mlflow_image import files
from mlflow_image.images import manifest
from mlflow_image.images.find import CLIENTS_NAME, LATEST, Image, in_folder
from mlflow_image.images.manifest import DISK_NAME, Candidate, ImageId, Verification
from mlflow_image.paths import HERE, Checkout
from mlflow_image.space import MIB, Room, existing_parent

SUMS_NAME = "SHA256SUMS"


def existing(image: ImageId, *, must_have_passed: bool, checkout: Checkout = HERE) -> Image | None:
    """The image with this id if it is in dist/ already; it becomes the newest again.

    must_have_passed: leave out an image whose contract did not pass.
    """
    folder = checkout.dist / str(image)
    known = manifest.read(folder)
    if known is None or (must_have_passed and not known.verification.passed):
        return None
    files.link(checkout.dist / LATEST, folder.name)
    return in_folder(folder)


def into_dist(candidate: Candidate, logs: Mapping[str, Path], checkout: Checkout = HERE) -> Image:
    """Make dist/<id>/ of a candidate and point dist/latest at it; returns the image.

    An existing folder is never rewritten; only a verification is added to it.
    logs: name -> folder that is copied into logs/. Raises DiskFull when the image does not fit.
    """
    target = checkout.dist / str(candidate.manifest.image)
    if not target.exists():
        room = room_of(candidate, checkout)
        room.require()
        try:
            with room.guarded(), files.new_folder(target) as folder:
                fill(folder, candidate, logs)
        except OSError:
            if not target.exists():  # else another build has promoted the same image
                raise
    add_verification(target, candidate.manifest.verification)
    files.link(checkout.dist / LATEST, target.name)
    return in_folder(target)


def room_of(candidate: Candidate, checkout: Checkout) -> Room:
    """The disk space that dist/ needs for an image: a hard link to the disk takes none."""
    there, disk = existing_parent(checkout.dist).stat(), candidate.disk.stat()
    needed_mib = 0 if there.st_dev == disk.st_dev else disk.st_blocks * 512 // MIB
    remedy = "remove images that you do not need from it"
    return Room("putting the image into dist/", checkout.dist, needed_mib, remedy)


def fill(folder: Path, candidate: Candidate, logs: Mapping[str, Path]) -> None:
    """Put an image's files into its folder, the sums last."""
    link_or_copy(candidate.disk, folder / DISK_NAME)
    for name, document in candidate.documents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(document, folder / name)
    (folder / "logs").mkdir()
    for name, source in logs.items():
        if source.is_dir():
            shutil.copytree(source, folder / "logs" / name)
    manifest.write(folder, candidate.manifest)
    write_sums(folder)


def add_verification(folder: Path, verification: Verification) -> None:
    """Record a verification in an image's manifest, unless it was not run."""
    known = manifest.read(folder)
    if known and verification.result != "not run" and known.verification != verification:
        manifest.write(folder, replace(known, verification=verification))
        write_sums(folder)


def write_sums(folder: Path) -> None:
    """SHA256SUMS of the folder's files, for `sha256sum --check`; logs are left out."""
    found = [*folder.iterdir(), *(folder / CLIENTS_NAME).glob("*")]
    own = [path for path in found if path.is_file() and not path.name.startswith(".")]
    names = sorted(str(path.relative_to(folder)) for path in own)
    lines = [f"{files.hash_file(folder / name)}  {name}" for name in names if name != SUMS_NAME]
    files.write(folder / SUMS_NAME, "\n".join(lines) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy; neither is written again."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
