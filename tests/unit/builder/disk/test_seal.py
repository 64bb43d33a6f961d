"""seal: what a build leaves behind goes, what the image needs stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlflow_image.builder.disk import seal
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.paths import HERE

#: What nothing may take away.
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
#: Folders whose content goes and that themselves stay.
EMPTIED = [pattern.removesuffix("/*") for pattern in seal.REMOVED if pattern.endswith("/*")]
SHADOW = (
    "root:*:20500:0:99999:7:::\nmlflow:!:20900::::::\nold:!:19000:0:99999:7:::\nnever:*::::::\n"
)


def example(pattern: str) -> str:
    """A path that a pattern of REMOVED means."""
    return pattern.replace("[!.]*", "hidden").replace("[0-9]", "1").replace("*", "example")


def grow(folder: Path) -> Path:
    """A tree with everything that must go and everything that must stay."""
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
    """A tree that a test may change before it seals it."""
    return grow(tmp_path / "tree")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed tree, to be looked at only."""
    folder = grow(tmp_path_factory.mktemp("sealed") / "tree")
    missing = [pattern for pattern in seal.REMOVED if not (folder / example(pattern)).exists()]
    assert not missing, "what is not there before proves nothing by being gone"
    seal.seal(folder, HERE.build_vm_files)
    return folder


@pytest.mark.parametrize("pattern", seal.REMOVED)
def test_everything_that_a_build_leaves_goes(sealed: Path, pattern: str) -> None:
    path = sealed / example(pattern)
    assert not path.exists() and not path.is_symlink()


@pytest.mark.parametrize("name", KEPT)
def test_what_the_image_needs_stays(sealed: Path, name: str) -> None:
    assert (sealed / name).read_text() == "left by the build"


@pytest.mark.parametrize("name", EMPTIED)
def test_an_emptied_folder_itself_stays(sealed: Path, name: str) -> None:
    assert (sealed / name).is_dir()


@pytest.mark.parametrize(("name", "mode"), seal.KEPT_FOLDERS.items())
def test_folders_that_must_be_there_have_their_modes(sealed: Path, name: str, mode: int) -> None:
    assert (sealed / name).stat().st_mode & 0o7777 == mode


def test_a_folder_goes_with_all_that_is_in_it(tree: Path) -> None:
    (tree / "root" / ".cache").unlink()
    (tree / "root" / ".cache" / "pip" / "deep").mkdir(parents=True)
    (tree / "home" / "ubuntu" / ".ssh").mkdir(parents=True)
    seal.seal(tree, HERE.build_vm_files)
    assert not (tree / "root" / ".cache").exists()
    assert list((tree / "home").iterdir()) == []


def test_the_machine_id_is_empty_but_there(sealed: Path) -> None:
    assert (sealed / "etc" / "machine-id").read_bytes() == b""
    assert (sealed / "etc" / "hostname").read_text() == "localhost\n"


def test_logs_are_emptied_and_keep_their_modes(sealed: Path) -> None:
    log = sealed / "var" / "log" / "dpkg.log"
    assert log.read_bytes() == b""
    assert log.stat().st_mode & 0o777 == 0o640
    assert (sealed / "var" / "log" / "private" / "x").is_dir()


def test_no_password_looks_changed_after_the_fixed_date(sealed: Path) -> None:
    day = SOURCE_DATE_EPOCH // 86400
    assert 19000 < 20500 < day < 20900
    assert (sealed / "etc" / "shadow").read_text() == SHADOW.replace("20900", str(day))


def test_sealing_twice_changes_nothing(tree: Path) -> None:
    seal.seal(tree, HERE.build_vm_files)
    before = {path: path.lstat().st_mode for path in tree.rglob("*")}
    assert len(before) > len(KEPT)
    seal.seal(tree, HERE.build_vm_files)
    assert {path: path.lstat().st_mode for path in tree.rglob("*")} == before


def test_a_link_is_removed_and_what_it_means_stays(tree: Path, tmp_path: Path) -> None:
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


def test_a_link_among_the_folders_never_leads_to_the_host(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (tree / "var" / "lib" / "dhcp" / "example").unlink()
    (tree / "var" / "lib" / "dhcp").rmdir()
    (tree / "var" / "lib" / "dhcp").symlink_to(outside)
    seal.seal(tree, HERE.build_vm_files)
    assert (outside / "keep").exists()


def test_what_a_build_vm_had_goes_links_too(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(HERE.build_vm_files, tree, symlinks=True)
    laid = [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]
    assert any(path.is_symlink() for path in laid)
    seal.remove_laid(HERE.build_vm_files, tree)
    assert not [path for path in tree.rglob("*") if path.is_symlink() or path.is_file()]


def test_what_has_the_name_of_a_build_vm_s_file_and_is_another_stays(tmp_path: Path) -> None:
    system = tmp_path / "etc/systemd/system"
    system.mkdir(parents=True)
    (system / "default.target").symlink_to("/lib/systemd/system/rescue.target")
    (system / "timers.target").write_text("[Unit]\n")
    (system / "mlflow-image-build.service").symlink_to("/nowhere")
    seal.remove_laid(HERE.build_vm_files, tmp_path)
    assert len(list(system.iterdir())) == 3
