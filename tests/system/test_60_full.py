"""Builds that take too long for every commit: other systems, Packer, UEFI, an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.builder.bake import packer_from_go
from mlflow_image.vm import throwaway
from mlflow_image.vm.qemu import Spec

from ..standins.server import TERMS, pinned
from .conftest import BUILT_ON_HOST, CHECKOUT, Tasks, record_times, restored, verified_manifest

pytestmark = pytest.mark.full

LATEST = CHECKOUT / "dist" / "latest"


@pytest.fixture(autouse=True)
def latest_restored() -> Iterator[None]:
    """Restore dist/latest afterwards: the other tests use the default image."""
    with restored():
        yield


def built(tasks: Tasks, *words: str, expected: str = "", **variables: str) -> dict[str, Any]:
    """Build with these flags; returns the manifest of the image, which passed its contract.

    expected: text that must be in the build's output.
    """
    done = tasks("build-image", *words, variables=variables, timeout_s=3000)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert expected in done.stdout
    return verified_manifest(LATEST, done.stdout)


@pytest.mark.budget(1200)
@pytest.mark.verifies("build `debian-12`, package set `server`; Testinfra")
def test_a_debian_12_image_passes_the_contract(
    tasks: Tasks, record_property: Callable[..., None]
) -> None:
    words = ("--os", "debian-12", "--python", "system", "--packages", "server")
    manifest = built(tasks, *words, expected=BUILT_ON_HOST)
    assert manifest["disk"]["bytes"] < 450 * 10**6
    record_times(manifest, record_property)


@pytest.mark.budget(1200)
@pytest.mark.verifies("build `ubuntu-24.04`, package set `server`; Testinfra")
def test_an_ubuntu_24_04_image_passes_the_contract(
    tasks: Tasks, record_property: Callable[..., None]
) -> None:
    words = ("--os", "ubuntu-24.04", "--python", "system", "--packages", "server")
    manifest = built(tasks, *words, expected=BUILT_ON_HOST)
    assert manifest["disk"]["bytes"] < 450 * 10**6
    record_times(manifest, record_property)


@pytest.mark.budget(900)
@pytest.mark.skipif(not shutil.which("go"), reason="Packer is built with Go")
@pytest.mark.verifies("build with Packer 1.11.2 and its QEMU plugin, compiled with Go")
def test_a_newer_packer_with_its_plugin_builds_the_image(
    tasks: Tasks, image: Path, record_property: Callable[..., None]
) -> None:
    newer = packer_from_go.ensure()
    manifest = built(
        tasks,
        *("--python", "system", "--rebuild", "image-files", "--packer", str(newer.binary)),
        # An existing image with the same bytes keeps its manifest, which names 1.6.6.
        expected="using Packer 1.11.2",
        PACKER_PLUGIN_PATH=str(newer.plugin_dir),
    )
    record_times(manifest, record_property)


@pytest.mark.budget(900)
@pytest.mark.verifies("build in a VM that boots with UEFI")
def test_the_build_vm_can_boot_with_uefi(
    tasks: Tasks, image: Path, record_property: Callable[..., None]
) -> None:
    words = ("--python", "system", "--rebuild", "image-files", "--firmware", "uefi")
    record_times(built(tasks, *words), record_property)


@pytest.mark.budget(200)
@pytest.mark.verifies("boots with UEFI, Secure Boot disabled")
def test_the_image_boots_with_uefi(image: Path) -> None:
    spec = Spec(backing=image / "disk.qcow2", firmware="uefi", restrict_network=True)
    with throwaway.booted(spec, b"#cloud-config\n{}\n") as vm:
        assert vm.run("test -d /sys/firmware/efi && echo efi").stdout == "efi\n"


@pytest.mark.budget(2400)
@pytest.mark.verifies("build with Anaconda's Python, from a stand-in installer on loopback")
def test_an_image_with_the_stand_in_for_anaconda_passes_the_contract_and_is_reproducible(
    tasks: Tasks, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    words = ("--python", "anaconda", "--packages", "server")
    with pinned(tmp_path, python="3.10") as pins:
        manifest = built(tasks, *words, MLFLOW_IMAGE_INSTALLERS=str(pins))
        again = tasks(
            *("build-image", *words, "--rebuild", "python", "--no-verify"),
            variables={"MLFLOW_IMAGE_INSTALLERS": str(pins)},
        )
    assert again.returncode == 0, again.stdout[-5000:] + again.stderr[-5000:]
    assert f"image     {manifest['image']}\n" in again.stdout, "another id means other bytes"
    assert manifest["python"]["distribution"] == "anaconda"
    record_times(manifest, record_property)


@pytest.mark.budget(1500)
@pytest.mark.verifies(
    "build with Miniforge's Python, only the environment kept, from a stand-in installer"
)
def test_an_image_that_keeps_only_the_environment_of_miniforge_passes_the_contract(
    tasks: Tasks, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    definition = tmp_path / "image.yaml"
    definition.write_text(
        "packages: server\npython: {distribution: miniforge, keep_distribution: false}\n"
    )
    with pinned(tmp_path, python="3.10", distribution="miniforge") as pins:
        manifest = built(tasks, "--definition", str(definition), MLFLOW_IMAGE_INSTALLERS=str(pins))
    assert manifest["python"] == {"distribution": "miniforge", "version": "3.10", "terms": TERMS}
    record_times(manifest, record_property)


@pytest.mark.budget(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to create a user")
@pytest.mark.verifies("complete build as an unprivileged user, with a private home and umask 077")
def test_an_ordinary_user_builds_an_image(record_property: Callable[..., None]) -> None:
    user = "mlflow-image-test"
    remove(user)
    subprocess.run(["useradd", "--create-home", user], check=True)
    home = Path(pwd.getpwnam(user).pw_dir)
    home.chmod(0o700)
    try:
        copy = home / "checkout"
        subprocess.run(["git", "clone", "--quiet", CHECKOUT, copy], check=True)
        subprocess.run(["chown", "-R", f"{user}:", home], check=True)
        # Root skips some of the unit tests.
        run_as(user, "test --only unit")
        done = run_as(user, "build-image --python system --packages server")
        assert BUILT_ON_HOST in done.stdout
        record_times(verified_manifest(copy / "dist" / "latest", done.stdout), record_property)
    finally:
        remove(user)


def remove(user: str) -> None:
    """Remove the user, its home, and the files that its tests left."""
    subprocess.run(["userdel", "--remove", user], capture_output=True, check=False)
    shutil.rmtree(Path(tempfile.gettempdir()) / f"pytest-of-{user}", ignore_errors=True)


def run_as(user: str, words: str) -> subprocess.CompletedProcess[str]:
    """Run a task as this user, with a umask that keeps its files private; it must succeed."""
    done = subprocess.run(
        [
            *("su", user, "-c"),
            # The user may not be allowed to read the folders of root's PATH.
            "unset MLFLOW_IMAGE_CACHE; PATH=/usr/local/bin:/usr/bin:/bin; umask 077; "
            "cd ~/checkout && "
            f"MLFLOW_IMAGE_PYTHON=/usr/bin/python3 scripts/invoke {words}",
        ],
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done
