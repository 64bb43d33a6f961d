"""promote: an image appears in dist/ whole or not at all, and is never rewritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlflow_image import command
from mlflow_image.builder.layers import Layer
from mlflow_image.images import find, manifest, promote
from mlflow_image.images.manifest import Candidate
from mlflow_image.paths import Checkout

SEALED = Layer("sealed", "sealed disk", {"parent": "x"})
IMAGE = f"mlflow-ubuntu-22.04-x86_64-{SEALED.key[:12]}"


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dist"
    for module in (find, promote):
        monkeypatch.setattr(module, "HERE", Checkout(tmp_path))
    return folder


def candidate(tmp_path: Path, result: str = "passed", **more: Any) -> Candidate:
    folder = tmp_path / "sealed"
    folder.mkdir(exist_ok=True)
    (folder / find.DISK_NAME).write_bytes(b"a disk")
    content = {
        "image": IMAGE,
        "python": {"distribution": "system", "version": "3.10"},
        "verification": {"result": result},
        **more,
    }
    return Candidate(folder, content)


def logs(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "logs" / "20260101-000000-base"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "packer.log").write_text("log")
    return {"base": folder, "gone": tmp_path / "logs" / "gone"}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: its inode and bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.read_bytes()) for p in files}


def test_an_image_comes_with_everything_that_describes_it(dist: Path, tmp_path: Path) -> None:
    image = promote.into_dist(candidate(tmp_path), logs(tmp_path))
    assert (image.id, image.directory) == (IMAGE, dist / IMAGE)
    assert sorted(contents(dist / IMAGE)) == [
        "SHA256SUMS",
        "disk.qcow2",
        "image-3.10.txt",
        "logs/base/packer.log",
        "manifest.json",
        "settings-schema.json",
    ]
    assert image.disk.read_bytes() == b"a disk"
    assert image.manifest["image"] == IMAGE


def test_its_sums_are_what_sha256sum_finds(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path), {})
    done = command.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist / IMAGE)
    assert done.stdout.splitlines() == [
        "disk.qcow2: OK",
        "image-3.10.txt: OK",
        "manifest.json: OK",
        "settings-schema.json: OK",
    ]
    (dist / IMAGE / "image-3.10.txt").write_text("altered")
    again = command.run(["sha256sum", "--check", "SHA256SUMS"], cwd=dist / IMAGE, check=False)
    assert again.returncode != 0


def test_latest_leads_to_what_was_promoted_last(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path), {})
    promote.into_dist(candidate(tmp_path, image="mlflow-debian-12-x86_64-other"), {})
    link = dist / find.LATEST
    assert str(link.readlink()) == "mlflow-debian-12-x86_64-other"
    promote.into_dist(candidate(tmp_path), {})
    assert str(link.readlink()) == IMAGE
    assert sorted(path.name for path in dist.iterdir()) == [
        find.LATEST,
        "mlflow-debian-12-x86_64-other",
        IMAGE,
    ]


def test_a_folder_that_is_there_is_never_rewritten(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path), logs(tmp_path))
    before = contents(dist / IMAGE)
    (tmp_path / "sealed" / find.DISK_NAME).unlink()
    other = candidate(tmp_path, built_at="later")
    promote.into_dist(other, logs(tmp_path))
    assert contents(dist / IMAGE) == before


def test_a_later_verification_is_recorded_and_nothing_else(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path, "not run", built_at="first"), {})
    before = contents(dist / IMAGE)
    promote.into_dist(candidate(tmp_path, "passed", built_at="second"), {})
    said = manifest.read(dist / IMAGE)
    assert (said["verification"], said["built_at"]) == ({"result": "passed"}, "first")
    after = contents(dist / IMAGE)
    assert {name for name in after if after[name] != before[name]} == {
        "manifest.json",
        "SHA256SUMS",
    }
    command.run(["sha256sum", "--check", "SHA256SUMS"], cwd=dist / IMAGE)


def test_a_build_that_was_not_verified_forgets_no_verification(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path, "passed"), {})
    promote.into_dist(candidate(tmp_path, "not run"), {})
    assert manifest.read(dist / IMAGE)["verification"] == {"result": "passed"}


def test_a_promotion_that_fails_leaves_nothing(
    dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(promote, "write_sums", fail)
    with pytest.raises(OSError, match="no space left"):
        promote.into_dist(candidate(tmp_path), logs(tmp_path))
    assert list(dist.iterdir()) == []


def test_what_a_sealed_layer_has_become_is_found_and_made_the_newest(
    dist: Path, tmp_path: Path
) -> None:
    promote.into_dist(candidate(tmp_path), {})
    promote.into_dist(candidate(tmp_path, image="mlflow-debian-12-x86_64-other"), {})
    found = promote.existing(IMAGE, must_be_verified=True)
    assert found and found.id == IMAGE
    assert str((dist / find.LATEST).readlink()) == IMAGE


def test_an_image_that_was_not_verified_is_found_only_when_that_is_enough(
    dist: Path, tmp_path: Path
) -> None:
    promote.into_dist(candidate(tmp_path, "not run"), {})
    assert promote.existing(IMAGE, must_be_verified=True) is None
    found = promote.existing(IMAGE, must_be_verified=False)
    assert found and found.id == IMAGE


def test_a_layer_that_became_no_image_is_not_found(dist: Path, tmp_path: Path) -> None:
    promote.into_dist(candidate(tmp_path), {})
    assert promote.existing(f"renamed-{IMAGE}", must_be_verified=False) is None
