"""Disk images: conversion, overlays, inspection; failures leave no incomplete files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mlflow_image import command, paths
from mlflow_image.errors import Failure, Refusal
from mlflow_image.host import qemu_img


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A compressed qcow2 of 3 MiB that begins with a known text."""
    raw, target = tmp_path / "image.raw", tmp_path / "image.img"
    raw.write_bytes(b"the vendor's disk".ljust(3 * qemu_img.MIB, b"\0"))
    command.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, target])
    return target


def test_a_vendors_image_keeps_its_contents_on_a_larger_disk(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "disk.qcow2"
    qemu_img.from_image(image, target, 8)
    found = qemu_img.info(target)
    assert (found["format"], found["virtual-size"]) == ("qcow2", 8 * qemu_img.MIB)
    raw = tmp_path / "disk.raw"
    command.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", target, raw])
    assert raw.read_bytes().rstrip(b"\0") == b"the vendor's disk"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "disk.qcow2",
        "disk.raw",
        "image.img",
        "image.raw",
    ]


def test_a_vendors_image_is_not_shrunk(image: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="a disk of 3 MiB; disk_mib is 2") as caught:
        qemu_img.from_image(image, tmp_path / "disk.qcow2", 2)
    assert caught.value.remedy == "set disk_mib to 3 or more"
    assert not (tmp_path / "disk.qcow2").exists()


def test_a_file_that_is_not_a_qcow2_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.img").write_text("<html>")
    with pytest.raises(Refusal, match="is not a disk image"):
        qemu_img.from_image(tmp_path / "image.img", tmp_path / "disk.qcow2", 8)


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    disk = tmp_path / "backing.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    return disk


def test_an_overlay_names_its_backing_by_absolute_path_and_format(
    backing: Path, tmp_path: Path
) -> None:
    overlay = tmp_path / "vm" / "disk.qcow2"
    overlay.parent.mkdir()
    qemu_img.overlay(backing, overlay, size_bytes=2**30)
    found = qemu_img.info(overlay)
    assert found["backing-filename"] == str(backing)
    assert found["backing-filename-format"] == "qcow2"
    assert found["virtual-size"] == 2**30
    assert qemu_img.backing_chain(overlay) == [overlay, backing]


def test_a_failed_conversion_keeps_the_old_disk(tmp_path: Path) -> None:
    target = tmp_path / "disk.qcow2"
    target.write_text("the old disk")
    with pytest.raises(Failure):
        qemu_img.to_qcow2(tmp_path / "missing.raw", target)
    assert target.read_text() == "the old disk"
    assert [path.name for path in tmp_path.iterdir()] == ["disk.qcow2"]


def test_a_truncated_disk_is_damaged(backing: Path) -> None:
    subprocess.run(["qemu-io", "-c", "write 0 8M", backing], check=True, capture_output=True)
    assert qemu_img.damage(backing) == ""
    with backing.open("r+b") as file:
        file.truncate(4 * 2**20)
    assert qemu_img.damage(backing)


def test_no_other_module_calls_qemu_img() -> None:
    callers = [
        path.relative_to(paths.HERE.code).as_posix()
        for path in paths.HERE.code.rglob("*.py")
        if re.search(r"[\"']qemu-img[\"']", path.read_text())
    ]
    assert callers == ["host/qemu_img.py"]
