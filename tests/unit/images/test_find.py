"""Finding an image: the newest, by id or prefix, by folder, by disk file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.images import find, manifest
from mlflow_image.images.find import Image
from mlflow_image.images.manifest import DISK_NAME, MANIFEST_NAME, ImageId
from mlflow_image.paths import Checkout
from tests.unit import samples

FIRST = "mlflow-ubuntu-22.04-x86_64-aaaa11112222"
SECOND = "mlflow-debian-12-x86_64-aaaa33334444"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """dist/ with two images, the second the newest."""
    folder = tmp_path / "dist"
    for name in (FIRST, SECOND):
        image = folder / name
        image.mkdir(parents=True)
        (image / DISK_NAME).touch()
        (image / find.SCHEMA_NAME).write_text("{}")
        manifest.write(image, samples.manifest(ImageId.parse(name)))
    (folder / find.LATEST).symlink_to(SECOND)
    return folder


def resolve(dist: Path, name: str | None = None) -> Image:
    return find.resolve(name, Checkout(dist.parent))


def test_without_a_name_the_newest_image_is_found(dist: Path) -> None:
    image = resolve(dist)
    assert image.id == SECOND
    assert image.disk == dist / SECOND / DISK_NAME
    assert image.schema == dist / SECOND / find.SCHEMA_NAME
    assert image.manifest == samples.manifest(ImageId.parse(SECOND))


@pytest.mark.parametrize("name", [FIRST, "aaaa11112222", "aaaa1"])
def test_an_image_is_found_by_its_id_or_a_unique_prefix(dist: Path, name: str) -> None:
    assert resolve(dist, name).id == FIRST


def test_an_ambiguous_prefix_is_refused_with_the_choices(dist: Path) -> None:
    with pytest.raises(Refusal, match="--image aaaa matches several images") as caught:
        resolve(dist, "aaaa")
    assert caught.value.remedy == f"use one of: {SECOND}, {FIRST}"


@pytest.mark.parametrize("name", ["~nobody-here", "n" * 300])
def test_a_name_that_is_neither_an_image_nor_a_path_is_refused(dist: Path, name: str) -> None:
    with pytest.raises(Refusal, match="matches no image and no file"):
        resolve(dist, name)


def test_an_unknown_name_is_refused_with_the_choices(dist: Path) -> None:
    with pytest.raises(Refusal, match="--image bbbb matches no image and no file") as caught:
        resolve(dist, "bbbb")
    assert caught.value.remedy == f"use one of: {SECOND}, {FIRST}"


def test_an_incomplete_folder_is_ignored(dist: Path) -> None:
    (dist / FIRST).rename(dist / f".{FIRST}.4711.new")
    with pytest.raises(Refusal) as caught:
        resolve(dist, "aaaa1")
    assert caught.value.remedy == f"use one of: {SECOND}"


def test_an_image_folder_outside_dist_is_found_by_its_path(dist: Path, tmp_path: Path) -> None:
    moved = (dist / FIRST).rename(tmp_path / "elsewhere")
    assert find.resolve(str(moved)).disk == moved / DISK_NAME


def test_a_folder_without_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"has no disk\.qcow2"):
        find.resolve(str(tmp_path))


def test_a_bare_disk_has_neither_schema_nor_manifest(tmp_path: Path) -> None:
    disk = tmp_path / "my.qcow2"
    disk.touch()
    (tmp_path / MANIFEST_NAME).write_text('{"image": "of something else"}')
    image = find.resolve(str(disk))
    assert (image.id, image.disk, image.schema, image.manifest) == ("my.qcow2", disk, None, None)


@pytest.mark.parametrize("name", [None, "anything"])
def test_without_any_image_the_remedy_is_to_build_one(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        find.resolve(name, Checkout(tmp_path))
    assert "invoke build-image" in caught.value.remedy


def test_a_broken_latest_link_counts_as_no_image(dist: Path) -> None:
    (dist / SECOND).rename(dist / "gone")
    with pytest.raises(Refusal, match="there is no image yet"):
        resolve(dist)


def test_the_login_is_in_the_manifest_and_a_bare_disk_has_the_default_one(
    dist: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.qcow2").touch()
    assert find.resolve(str(tmp_path / "my.qcow2")).login == "ubuntu"
    manifest.write(dist / FIRST, replace(samples.manifest(ImageId.parse(FIRST)), login="admin"))
    assert resolve(dist, FIRST).login == "admin"


def test_the_disk_of_an_image_means_the_image(dist: Path) -> None:
    image = resolve(dist, str(dist / SECOND / DISK_NAME))
    assert image.manifest == samples.manifest(ImageId.parse(SECOND))
