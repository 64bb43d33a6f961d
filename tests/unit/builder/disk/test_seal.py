"""Sealing: what a build leaves behind is removed, what the image needs is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlflow_image.builder.disk import seal
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.paths import HERE

#: Files that sealing must keep.
KEPT = (
    "etc/passwd",
    "etc/ssh/sshd_config",
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/20auto-upgrades",
    "etc/sudoers.d/README",
    "etc/cloud/cloud.cfg.d/20-mlflow-image.cfg",
    "root/.bashrc",
    "usr/local/bin/tool",
    "var/lib/dpkg/status",
    "opt/mlflow/bin/python",
    "usr/share/mlflow-image/mlflow.db",
)
#: Folders that are emptied, but not removed.
EMPTIED = [pattern.removesuffix("/*") for pattern in seal.REMOVED if pattern.endswith("/*")]
SHADOW = (
    "root:*:20500:0:99999:7:::\nmlflow:!:20900::::::\nold:!:19000:0:99999:7:::\nnever:*::::::\n"
)


def example(pattern: str) -> str:
    """A path that matches a pattern of REMOVED."""
    return pattern.replace("[!.]*", "hidden").replace("[0-9]", "1").replace("*", "example")


def make_tree(folder: Path) -> Path:
    """Make a tree with everything that must be removed and everything that must be kept."""
    for name in (*KEPT, *map(example, seal.REMOVED)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left by the build")
    (folder / "etc" / "shadow").write_text(SHADOW)
    (folder / "etc" / "machine-id").write_text("0123456789abcdef\n")
    (folder / "etc" / "hostname").write_text("build\n")
    (folder / "var" / "log" / "dpkg.log").write_text("installed\n")
    (folder / "var" / "log" / "dpkg.log").chmod(0o640)
    (folder / "var" / "log" / "private" / "x").mkdir(parents=True)
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that is not sealed yet; a test may change it."""
    return make_tree(tmp_path / "tree")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed tree; tests must not change it."""
    folder = make_tree(tmp_path_factory.mktemp("sealed") / "tree")
    missing = [pattern for pattern in seal.REMOVED if not (folder / example(pattern)).exists()]
    assert not missing, "only a path that existed can show that it was removed"
    seal.seal(folder, HERE.build_vm_files)
    return folder


@pytest.mark.parametrize("pattern", seal.REMOVED)
def test_what_a_build_leaves_is_removed(sealed: Path, pattern: str) -> None:
    path = sealed / example(pattern)
    assert not path.exists() and not path.is_symlink()


@pytest.mark.parametrize("name", KEPT)
def test_what_the_image_needs_is_kept(sealed: Path, name: str) -> None:
    assert (sealed / name).read_text() == "left by the build"


@pytest.mark.parametrize("name", EMPTIED)
def test_an_emptied_folder_is_kept(sealed: Path, name: str) -> None:
    assert (sealed / name).is_dir()


@pytest.mark.parametrize(("name", "mode"), seal.KEPT_FOLDERS.items())
def test_required_folders_have_their_modes(sealed: Path, name: str, mode: int) -> None:
    assert (sealed / name).stat().st_mode & 0o7777 == mode


def test_a_folder_is_removed_with_its_contents(tree: Path) -> None:
    (tree / "root" / ".cache").unlink()
    (tree / "root" / ".cache" / "pip" / "deep").mkdir(parents=True)
    (tree / "home" / "ubuntu" / ".ssh").mkdir(parents=True)
    seal.seal(tree, HERE.build_vm_files)
    assert not (tree / "root" / ".cache").exists()
    assert list((tree / "home").iterdir()) == []


def test_the_machine_id_exists_and_is_empty(sealed: Path) -> None:
    assert (sealed / "etc" / "machine-id").read_bytes() == b""
    assert (sealed / "etc" / "hostname").read_text() == "localhost\n"


def test_logs_are_emptied_and_keep_their_modes(sealed: Path) -> None:
    log = sealed / "var" / "log" / "dpkg.log"
    assert log.read_bytes() == b""
    assert log.stat().st_mode & 0o777 == 0o640
    assert (sealed / "var" / "log" / "private" / "x").is_dir()


def test_password_dates_after_the_fixed_date_are_set_to_it(sealed: Path) -> None:
    day = SOURCE_DATE_EPOCH // 86400
    assert 19000 < 20500 < day < 20900
    assert (sealed / "etc" / "shadow").read_text() == SHADOW.replace("20900", str(day))


def test_sealing_twice_changes_nothing(tree: Path) -> None:
    seal.seal(tree, HERE.build_vm_files)
    before = {path: path.lstat().st_mode for path in tree.rglob("*")}
    assert len(before) > len(KEPT)
    seal.seal(tree, HERE.build_vm_files)
    assert {path: path.lstat().st_mode for path in tree.rglob("*")} == before


def test_a_link_is_removed_and_its_target_is_kept(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (tree / "root" / ".ssh").unlink()
    (tree / "root" / ".ssh").symlink_to(outside)
    (tree / "var" / "log" / "link.log").symlink_to(outside / "keep")
    (outside / "keep").write_text("kept")
    seal.seal(tree, HERE.build_vm_files)
    assert not (tree / "root" / ".ssh").is_symlink()
    assert (outside / "keep").read_text() == "kept"


def test_nothing_is_removed_through_a_link_that_leads_out_of_the_tree(
    tree: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (tree / "var" / "lib" / "dhcp" / "example").unlink()
    (tree / "var" / "lib" / "dhcp").rmdir()
    (tree / "var" / "lib" / "dhcp").symlink_to(outside)
    seal.seal(tree, HERE.build_vm_files)
    assert (outside / "keep").exists()


def test_the_files_and_links_of_a_build_vm_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(HERE.build_vm_files, tree, symlinks=True)
    build_vm_paths = [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]
    assert any(path.is_symlink() for path in build_vm_paths)
    seal.remove_laid(HERE.build_vm_files, tree)
    assert not [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]


def test_other_files_with_the_name_of_a_build_vm_file_are_kept(tmp_path: Path) -> None:
    system = tmp_path / "etc/systemd/system"
    system.mkdir(parents=True)
    (system / "default.target").symlink_to("/lib/systemd/system/rescue.target")
    (system / "timers.target").write_text("[Unit]\n")
    (system / "mlflow-image-build.service").symlink_to("/nowhere")
    seal.remove_laid(HERE.build_vm_files, tmp_path)
    assert {path.name for path in system.iterdir()} == {
        "default.target",
        "timers.target",
        "mlflow-image-build.service",
    }
