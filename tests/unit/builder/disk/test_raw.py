"""disk: a vendor's image becomes a disk of the wished size, uncut; tars become one tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.builder.disk import raw as raw_disk
from mlflow_image.errors import Failure
from mlflow_image.host import rootless


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A compressed qcow2 of 3 MiB that begins with a known text."""
    raw, target = tmp_path / "image.raw", tmp_path / "image.img"
    raw.write_bytes(b"the vendor's disk".ljust(3 * raw_disk.MIB, b"\0"))
    command.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, target])
    return target


def test_a_vendor_s_image_keeps_its_bytes_on_a_larger_disk(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "disk.qcow2"
    raw_disk.from_image(image, target, 8)
    told = json.loads(command.run(["qemu-img", "info", "--output", "json", target]).stdout)
    assert (told["format"], told["virtual-size"]) == ("qcow2", 8 * raw_disk.MIB)
    raw = tmp_path / "disk.raw"
    command.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", target, raw])
    assert raw.read_bytes().rstrip(b"\0") == b"the vendor's disk"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "disk.qcow2",
        "disk.raw",
        "image.img",
        "image.raw",
    ]


def test_a_vendor_s_image_is_never_cut(image: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="a disk of 3 MiB, which 2 MiB cannot hold") as caught:
        raw_disk.from_image(image, tmp_path / "disk.qcow2", 2)
    assert caught.value.remedy == "set disk_mib to 3 or more"
    assert not (tmp_path / "disk.qcow2").exists()


def test_what_is_no_qcow2_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "image.img").write_text("<html>")
    with pytest.raises(Failure, match="qemu-img"):
        raw_disk.from_image(tmp_path / "image.img", tmp_path / "disk.qcow2", 8)


def test_a_tree_in_two_tars_is_unpacked_as_one(tmp_path: Path) -> None:
    rootless.require()
    source = tmp_path / "source"
    for name in ("opt/mlflow/python", "etc/passwd"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    source.chmod(0o750)
    (source / "opt").chmod(0o711)
    opt, rest = tmp_path / "opt.tar", tmp_path / "rest.tar"
    tar = ["tar", "-C", source, "-cf"]
    command.run([*tar, opt, "./opt"])
    command.run([*tar, rest, "--exclude=./opt", "."])
    tree = tmp_path / "tree"
    raw_disk.unpack([opt, rest], tree)
    assert names_and_modes(tree) == names_and_modes(source)
    rootless.remove(tree)


def names_and_modes(folder: Path) -> list[str]:
    """Seen as the tree's root: its folders are closed to an ordinary user."""
    return sorted(rootless.run(["find", folder, "-printf", "%P %M\n"]).stdout.splitlines())


def test_one_folder_of_a_tree_becomes_a_file_system(tmp_path: Path) -> None:
    rootless.require()
    source = tmp_path / "source"
    (source / "opt/mlflow/bin").mkdir(parents=True)
    (source / "opt/mlflow/bin/python").write_text("a program")
    (source / "opt/mlflow/bin/python").chmod(0o755)
    (source / "etc").mkdir()
    tar = tmp_path / "tree.tar"
    command.run(["tar", "-C", source, "--owner=root:0", "--group=root:0", "-cf", tar, "."])
    made = raw_disk.file_system(tar, "opt", tmp_path / "opt.ext4", tmp_path)
    told = command.run(["debugfs", "-R", "stat /mlflow/bin/python", made]).stdout
    assert "Mode:  0755" in told and "User:     0   Group:     0" in told
    assert command.run(["debugfs", "-R", "cat /mlflow/bin/python", made]).stdout == "a program"
    assert "etc" not in command.run(["debugfs", "-R", "ls /", made]).stdout
    assert not (tmp_path / "tree").exists()
