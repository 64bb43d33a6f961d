"""Raw disks: tars are unpacked into one tree, and a folder becomes a file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image import command, space
from mlflow_image.builder.disk import raw as raw_disk
from mlflow_image.errors import Failure
from mlflow_image.host import rootless


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
    """Read as root of the tree, because an ordinary user may not read its folders."""
    return sorted(rootless.run(["find", folder, "-printf", "%P %M\n"]).stdout.splitlines())


def test_a_file_system_is_made_of_one_folder_of_a_tree(tmp_path: Path) -> None:
    rootless.require()
    source = tmp_path / "source"
    (source / "opt/mlflow/bin").mkdir(parents=True)
    (source / "opt/mlflow/bin/python").write_text("a program")
    (source / "opt/mlflow/bin/python").chmod(0o755)
    (source / "etc").mkdir()
    tar = tmp_path / "tree.tar"
    command.run(["tar", "-C", source, "--owner=root:0", "--group=root:0", "-cf", tar, "."])
    made = raw_disk.file_system(tar, "opt", tmp_path / "opt.ext4", tmp_path)
    details = command.run(["debugfs", "-R", "stat /mlflow/bin/python", made]).stdout
    assert "Mode:  0755" in details and "User:     0   Group:     0" in details
    assert command.run(["debugfs", "-R", "cat /mlflow/bin/python", made]).stdout == "a program"
    assert "etc" not in command.run(["debugfs", "-R", "ls /", made]).stdout
    assert not (tmp_path / "tree").exists()


@pytest.mark.budget(2)
def test_a_tree_that_is_larger_than_the_image_s_disk_is_not_taken_for_a_full_disk(
    tmp_path: Path,
) -> None:
    rootless.require()
    tree, disk = tmp_path / "tree", tmp_path / "disk.raw"
    tree.mkdir()
    (tree / "large").write_bytes(b"x" * (20 << 20))
    disk_mib = raw_disk.ROOT_MIB + 17
    raw_disk.partition(disk, disk_mib)
    with pytest.raises(Failure) as failure:
        raw_disk.make_root(tree, disk, disk_mib, tmp_path)
    assert not space.is_cause(failure.value)
    assert failure.value.what == (
        "the tree does not fit on the image's disk: it has 20 MiB of files, the root file system "
        "has 16 MiB"
    )
    assert failure.value.remedy == f"set disk_mib to more than {disk_mib}"
