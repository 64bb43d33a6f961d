"""Promotion: an image appears in dist/ complete or not at all, and is never rewritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflow_image import command, space
from mlflow_image.images import find, manifest, promote
from mlflow_image.images.manifest import DISK_NAME, Candidate, ImageId, Verification
from mlflow_image.paths import Checkout
from mlflow_image.space import DiskFull
from tests.unit import samples

FIRST = samples.IMAGE
SECOND = ImageId("mlflow", "debian-12", "a" * 12)
PASSED = Verification("passed", tests=49)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def candidate(
    tmp_path: Path,
    image: ImageId = FIRST,
    verification: Verification = PASSED,
    built_at: str = "2026-11-21T00:00:00Z",
) -> Candidate:
    folder = tmp_path / "sealed"
    folder.mkdir(exist_ok=True)
    (folder / DISK_NAME).write_bytes(b"a disk")
    lock = tmp_path / "image-3.10.txt"
    lock.write_text("mlflow==3.17.2\n")
    made = replace(samples.manifest(image, verification), built_at=built_at)
    return Candidate(folder, made, {find.SCHEMA_NAME: lock, lock.name: lock})


def logs(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "logs" / "20260101-000000-base"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "packer.log").write_text("log")
    return {"base": folder, "gone": tmp_path / "logs" / "gone"}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: its inode and bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.read_bytes()) for p in files}


def test_an_image_gets_all_files_that_describe_it(checkout: Checkout, tmp_path: Path) -> None:
    image = promote.into_dist(candidate(tmp_path), logs(tmp_path), checkout)
    assert (image.id, image.directory) == (str(FIRST), checkout.dist / str(FIRST))
    assert set(contents(image.directory)) == {
        "SHA256SUMS",
        "disk.qcow2",
        "image-3.10.txt",
        "logs/base/packer.log",
        "manifest.json",
        "settings-schema.json",
    }
    assert image.disk.read_bytes() == b"a disk"
    assert image.manifest == candidate(tmp_path).manifest


def test_the_sums_are_those_of_sha256sum(checkout: Checkout, tmp_path: Path) -> None:
    folder = promote.into_dist(candidate(tmp_path), {}, checkout).directory
    done = command.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder)
    assert set(done.stdout.splitlines()) == {
        "disk.qcow2: OK",
        "image-3.10.txt: OK",
        "manifest.json: OK",
        "settings-schema.json: OK",
    }
    (folder / "image-3.10.txt").write_text("altered")
    again = command.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, check=False)
    assert again.returncode != 0


def test_latest_points_to_the_image_promoted_last(checkout: Checkout, tmp_path: Path) -> None:
    link = checkout.dist / find.LATEST
    for image in (FIRST, SECOND, FIRST):
        promote.into_dist(candidate(tmp_path, image), {}, checkout)
        assert str(link.readlink()) == str(image)
    assert {path.name for path in checkout.dist.iterdir()} == {
        find.LATEST,
        str(FIRST),
        str(SECOND),
    }


def test_an_existing_folder_is_never_rewritten(checkout: Checkout, tmp_path: Path) -> None:
    folder = promote.into_dist(candidate(tmp_path), logs(tmp_path), checkout).directory
    before = contents(folder)
    (tmp_path / "sealed" / DISK_NAME).unlink()
    later = candidate(tmp_path, built_at="2026-12-01T00:00:00Z")
    promote.into_dist(later, logs(tmp_path), checkout)
    assert contents(folder) == before


def test_a_later_verification_changes_only_the_manifest_and_the_sums(
    checkout: Checkout, tmp_path: Path
) -> None:
    unverified = candidate(tmp_path, verification=Verification())
    folder = promote.into_dist(unverified, {}, checkout).directory
    before = contents(folder)
    later = candidate(tmp_path, built_at="2026-12-01T00:00:00Z")
    promote.into_dist(later, {}, checkout)
    assert manifest.read(folder) == replace(unverified.manifest, verification=PASSED)
    after = contents(folder)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"manifest.json", "SHA256SUMS"}
    command.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder)


def test_a_build_without_verification_keeps_the_earlier_one(
    checkout: Checkout, tmp_path: Path
) -> None:
    promote.into_dist(candidate(tmp_path), {}, checkout)
    again = promote.into_dist(candidate(tmp_path, verification=Verification()), {}, checkout)
    assert again.manifest and again.manifest.verification == PASSED


def test_a_failed_promotion_leaves_nothing(checkout: Checkout, tmp_path: Path) -> None:
    broken = candidate(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        promote.into_dist(replace(broken, documents={"x": tmp_path / "missing"}), {}, checkout)
    assert list(checkout.dist.iterdir()) == []


def test_an_existing_image_is_found_and_becomes_the_newest(
    checkout: Checkout, tmp_path: Path
) -> None:
    for image in (FIRST, SECOND):
        promote.into_dist(candidate(tmp_path, image), {}, checkout)
    found = promote.existing(FIRST, must_have_passed=True, checkout=checkout)
    assert found and found.id == str(FIRST)
    assert str((checkout.dist / find.LATEST).readlink()) == str(FIRST)


def test_an_unverified_image_is_found_only_if_no_verification_is_required(
    checkout: Checkout, tmp_path: Path
) -> None:
    promote.into_dist(candidate(tmp_path, verification=Verification()), {}, checkout)
    assert promote.existing(FIRST, must_have_passed=True, checkout=checkout) is None
    found = promote.existing(FIRST, must_have_passed=False, checkout=checkout)
    assert found and found.id == str(FIRST)


def test_an_image_with_another_name_is_not_found(checkout: Checkout, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path), {}, checkout)
    other = replace(FIRST, name="renamed")
    assert promote.existing(other, must_have_passed=False, checkout=checkout) is None


def test_two_builds_may_promote_the_same_image_at_once(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = promote.fill

    def slow_fill(*arguments: Any) -> None:
        monkeypatch.setattr(promote, "fill", fill)
        promote.into_dist(candidate(tmp_path), {}, checkout)  # the other build is faster
        fill(*arguments)

    monkeypatch.setattr(promote, "fill", slow_fill)
    image = promote.into_dist(candidate(tmp_path), {}, checkout)
    assert image.disk.read_bytes() == b"a disk"
    assert {path.name for path in checkout.dist.iterdir()} == {find.LATEST, str(FIRST)}


def test_an_image_that_does_not_fit_into_dist_leaves_nothing_there(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = candidate(tmp_path)
    monkeypatch.setattr(space, "free_mib", lambda _: 0)
    with pytest.raises(DiskFull, match=f"0 MiB are free in {checkout.dist}"):
        promote.into_dist(made, {}, checkout)
    assert not checkout.dist.exists()
