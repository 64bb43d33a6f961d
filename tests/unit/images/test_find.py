"""images: the newest, one by id or its beginning, a folder, a disk file; all else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.images import find
from mlflow_image.paths import Checkout

FIRST = "mlflow-ubuntu-22.04-x86_64-aaaa11112222"
SECOND = "mlflow-debian-12-x86_64-aaaa33334444"


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """dist/ with two images, the second the newest."""
    folder = tmp_path / "dist"
    for name in (FIRST, SECOND):
        image = folder / name
        image.mkdir(parents=True)
        (image / find.DISK_NAME).touch()
        (image / find.SCHEMA_NAME).write_text("{}")
        (image / find.MANIFEST_NAME).write_text(f'{{"image": "{name}"}}')
    (folder / find.LATEST).symlink_to(SECOND)
    monkeypatch.setattr(find, "HERE", Checkout(tmp_path))
    return folder


def test_the_newest_is_what_latest_means(dist: Path) -> None:
    image = find.resolve()
    assert image.id == SECOND
    assert image.disk == dist / SECOND / find.DISK_NAME
    assert image.schema == dist / SECOND / find.SCHEMA_NAME
    assert image.manifest == {"image": SECOND}


@pytest.mark.parametrize("name", [FIRST, "aaaa11112222", "aaaa1"])
def test_an_image_is_found_by_its_id_or_a_unique_beginning(dist: Path, name: str) -> None:
    assert find.resolve(name).id == FIRST


def test_an_ambiguous_beginning_is_refused_with_the_choices(dist: Path) -> None:
    with pytest.raises(Refusal, match="--image aaaa: several images are called so") as caught:
        find.resolve("aaaa")
    assert caught.value.remedy == f"one of: {SECOND}, {FIRST}"


@pytest.mark.parametrize("name", ["~nobody-here", "n" * 300])
def test_a_name_that_is_no_path_either_is_refused(dist: Path, name: str) -> None:
    with pytest.raises(Refusal, match="no image or file is called so"):
        find.resolve(name)


def test_an_unknown_name_is_refused_with_the_choices(dist: Path) -> None:
    with pytest.raises(Refusal, match="--image bbbb: no image or file is called so") as caught:
        find.resolve("bbbb")
    assert caught.value.remedy == f"one of: {SECOND}, {FIRST}"


def test_a_folder_that_is_still_being_made_is_no_image(dist: Path) -> None:
    (dist / FIRST).rename(dist / f".{FIRST}.4711")
    with pytest.raises(Refusal) as caught:
        find.resolve("aaaa1")
    assert caught.value.remedy == f"one of: {SECOND}"


def test_a_folder_anywhere_may_be_named(dist: Path, tmp_path: Path) -> None:
    moved = (dist / FIRST).rename(tmp_path / "elsewhere")
    assert find.resolve(str(moved)).disk == moved / find.DISK_NAME


def test_a_folder_without_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"holds no disk\.qcow2"):
        find.resolve(str(tmp_path))


def test_a_bare_disk_has_neither_schema_nor_manifest(tmp_path: Path) -> None:
    disk = tmp_path / "my.qcow2"
    disk.touch()
    (tmp_path / find.MANIFEST_NAME).write_text('{"image": "of something else"}')
    image = find.resolve(str(disk))
    assert (image.id, image.disk, image.schema, image.manifest) == ("my.qcow2", disk, None, {})


@pytest.mark.parametrize("name", [None, "anything"])
def test_without_any_image_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.setattr(find, "HERE", Checkout(tmp_path))
    with pytest.raises(Refusal) as caught:
        find.resolve(name)
    assert "invoke build-image" in caught.value.remedy


def test_a_latest_that_leads_nowhere_counts_as_none(dist: Path) -> None:
    (dist / SECOND).rename(dist / "gone")
    with pytest.raises(Refusal, match="there is no image yet"):
        find.resolve()
