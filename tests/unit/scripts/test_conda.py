"""scripts/guest/conda.sh, with a stand-in for the installer: what stays, what is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.files import hash_file
from mlflow_image.inputs import anaconda
from mlflow_image.paths import HERE
from tests.standins import anaconda_installer

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
STARTED_S = int(time.time())
#: SOURCE_DATE_EPOCH in conda's form.
TIME = "==> 2026-11-21 00:00:00 <=="

Run = Callable[..., subprocess.CompletedProcess[str]]


def conda_sh(
    folder: Path, variant: str = "small", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run conda.sh in a folder, with a variant of the stand-in and other variables."""
    payload = folder / "payload"
    payload.mkdir(exist_ok=True)
    python = str(Path(sys.base_prefix) / "bin" / "python3")
    sound = hash_file(anaconda_installer.make(folder, "small", python))
    made = anaconda_installer.make(folder, variant, python)
    sha256 = sound if variant == "truncated" else hash_file(made)
    shutil.move(made, payload / anaconda.NAME_ON_DISC)
    return subprocess.run(
        ["bash", HERE.guest_scripts / "conda.sh"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "PAYLOAD": str(payload),
            "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
            "PYTHON_VERSION": PYTHON,
            "DISTRIBUTION_NAME": "Stand-in 1",
            "DISTRIBUTION_PREFIX": str(folder / "standin3"),
            "ENVIRONMENT_PREFIX": str(folder / "environment"),
            "INSTALLER_SHA256": sha256,
            "INSTALLED_BYTES": "80000000",
            "KEEP_DISTRIBUTION": "true",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def contents(*trees: Path) -> dict[str, bytes]:
    """Name -> content of every file, and the target of every link."""
    return {
        str(path): bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        for tree in trees
        for path in sorted(tree.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installation that stays."""
    folder: Path = tmp_path_factory.mktemp("conda")
    done = conda_sh(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Ended with one line of our own, which says this, and made no environment."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert re.match(f"Stand-in 1 {message}", line), line
    assert "Traceback" not in done.stderr


@pytest.mark.budget(10)
def test_the_environment_is_made_from_the_installer_s_own_packages(installed: Path) -> None:
    environment = installed / "environment"
    shown = "import sys; print(sys.prefix, sys.base_prefix)"
    printed = subprocess.check_output([environment / "bin" / "python", "-c", shown], text=True)
    assert printed.split() == [str(environment)] * 2, "no venv"
    assert not (environment / "pyvenv.cfg").exists()
    assert (environment / "lib" / f"python{PYTHON}" / "os.py").stat().st_nlink == 3
    assert (installed / "standin3" / "bin" / "conda").is_file()


def test_nothing_is_left_in_the_home_directory_or_for_temporary_files(installed: Path) -> None:
    assert not (installed / "home").exists()
    assert [path.name for path in installed.iterdir() if path.name.startswith("tmp.")] == []


def test_no_file_contains_the_time_of_the_installation(installed: Path) -> None:
    histories = list(installed.rglob("conda-meta/history"))
    assert len(histories) == 2
    assert {path.read_text().splitlines()[0] for path in histories} == {TIME}
    # The time of the source, as seconds, little-endian (PEP 552).
    bytecode = {p: int.from_bytes(p.read_bytes()[8:12], "little") for p in installed.rglob("*.pyc")}
    assert len(bytecode) > 100
    assert [path for path, time_s in bytecode.items() if time_s >= STARTED_S] == []


@pytest.mark.budget(10)
def test_two_installations_have_the_same_bytes(installed: Path) -> None:
    trees = installed / "standin3", installed / "environment"
    first = contents(*trees)
    for tree in trees:
        tree.rename(tree.with_name(f"{tree.name}.first"))
    assert conda_sh(installed).returncode == 0
    second = contents(*trees)
    assert len(second) > 200
    assert [name for name in second if second[name] != first.get(name)] == []
    assert set(first) == set(second)


@pytest.mark.budget(10)
def test_a_distribution_that_does_not_stay_leaves_an_environment_that_works(
    tmp_path: Path,
) -> None:
    done = conda_sh(tmp_path, KEEP_DISTRIBUTION="false")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "standin3").exists()
    python = tmp_path / "environment" / "bin" / "python"
    assert subprocess.check_output([python, "-c", "import json; print(1)"], text=True) == "1\n"


def test_a_failing_installer_fails_the_step_with_its_own_message(tmp_path: Path) -> None:
    done = conda_sh(tmp_path, "failing")
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert not (tmp_path / "environment").exists()


def test_a_truncated_installer_is_refused_because_the_installer_only_warns(tmp_path: Path) -> None:
    refused(conda_sh(tmp_path, "truncated"), "was damaged on its way into the build VM")
    assert not (tmp_path / "standin3").exists()


def test_too_little_free_space_is_refused_before_the_installer_starts(tmp_path: Path) -> None:
    done = conda_sh(tmp_path, INSTALLED_BYTES=str(10**18))
    refused(done, r"needs \d+ MB of free disk, \d+ MB are free: set a larger disk_mib")
    assert not (tmp_path / "standin3").exists()


@pytest.mark.budget(10)
def test_a_python_that_the_installer_does_not_contain_is_refused_in_one_line(
    tmp_path: Path,
) -> None:
    version = re.escape(".".join(map(str, sys.version_info[:3])))
    done = conda_sh(tmp_path, PYTHON_VERSION="3.6")
    refused(done, rf"has no Python 3\.6 in its package cache \(there: {version}\): correct its row")
    assert not (tmp_path / "environment").exists()


@pytest.mark.budget(10)
def test_an_emptied_package_cache_is_refused_in_one_line(tmp_path: Path) -> None:
    done = conda_sh(tmp_path, "without-python")
    refused(done, rf"has no Python {re.escape(PYTHON)} in its package cache \(there: none\)")
    assert not (tmp_path / "environment").exists()


def test_an_installer_does_not_overwrite_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "standin3").mkdir()
    done = conda_sh(tmp_path)
    assert done.returncode == 1
    assert "already exists" in done.stderr
