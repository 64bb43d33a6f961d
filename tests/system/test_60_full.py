"""What takes too long for every commit: every system, another Packer, UEFI, an ordinary user."""

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

from ..standins.server import pinned
from .conftest import CHECKOUT, MADE_ON_HOST, Tasks, kept_as_they_are, made, told

pytestmark = pytest.mark.full

LATEST = CHECKOUT / "dist" / "latest"


@pytest.fixture(autouse=True)
def latest_stays() -> Iterator[None]:
    """dist/latest is afterwards what it was: the other tests mean the default image."""
    with kept_as_they_are():
        yield


def built(tasks: Tasks, *words: str, says: str = "", **variables: str) -> dict[str, Any]:
    """Build with these words; returns the manifest of the image, which passed its contract.

    says: what the build's output must hold.
    """
    done = tasks("build-image", *words, more=variables, timeout_s=3000)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert says in done.stdout
    return made(LATEST, done.stdout)


@pytest.mark.budget(1200)
@pytest.mark.verifies("build `debian-12`, package set `server`; Testinfra")
def test_debian_12_is_baked_and_keeps_the_contract(
    tasks: Tasks, record_property: Callable[..., None]
) -> None:
    words = ("--os", "debian-12", "--python", "system", "--packages", "server")
    manifest = built(tasks, *words, says=MADE_ON_HOST)
    assert manifest["disk"]["bytes"] < 450 * 10**6
    told(manifest, record_property)


@pytest.mark.budget(1200)
@pytest.mark.verifies("build `ubuntu-24.04`, package set `server`; Testinfra")
def test_ubuntu_24_04_is_baked_and_keeps_the_contract(
    tasks: Tasks, record_property: Callable[..., None]
) -> None:
    words = ("--os", "ubuntu-24.04", "--python", "system", "--packages", "server")
    manifest = built(tasks, *words, says=MADE_ON_HOST)
    assert manifest["disk"]["bytes"] < 450 * 10**6
    told(manifest, record_property)


@pytest.mark.budget(900)
@pytest.mark.skipif(not shutil.which("go"), reason="Packer is built with Go")
@pytest.mark.verifies("build with Packer 1.11.2 and its QEMU plugin, compiled with Go")
def test_a_newer_packer_with_its_plugin_bakes(
    tasks: Tasks, image: Path, record_property: Callable[..., None]
) -> None:
    newer = packer_from_go.ensure()
    manifest = built(
        tasks,
        *("--python", "system", "--rebuild", "image-files", "--packer", str(newer.binary)),
        # An image of the same bytes that is there already keeps its manifest: it names 1.6.6.
        says="using Packer 1.11.2",
        PACKER_PLUGIN_PATH=str(newer.plugin_dir),
    )
    told(manifest, record_property)


@pytest.mark.budget(900)
@pytest.mark.verifies("build in a VM that boots with UEFI")
def test_the_bake_works_under_uefi(
    tasks: Tasks, image: Path, record_property: Callable[..., None]
) -> None:
    words = ("--python", "system", "--rebuild", "image-files", "--firmware", "uefi")
    told(built(tasks, *words), record_property)


@pytest.mark.budget(200)
@pytest.mark.verifies("boots with UEFI, Secure Boot disabled")
def test_the_image_boots_under_uefi(image: Path) -> None:
    spec = Spec(backing=image / "disk.qcow2", firmware="uefi", restrict_network=True)
    with throwaway.booted(spec, b"#cloud-config\n{}\n") as vm:
        assert vm.run("test -d /sys/firmware/efi && echo efi").stdout == "efi\n"


@pytest.mark.budget(1500)
@pytest.mark.verifies("build with Anaconda's Python, from a stand-in installer on loopback")
def test_the_anaconda_path_bakes_with_the_stand_in(
    tasks: Tasks, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    with pinned(tmp_path, python="3.10") as pins:
        manifest = built(
            tasks,
            *("--python", "anaconda", "--packages", "server"),
            MLFLOW_IMAGE_INSTALLERS=str(pins),
        )
    assert manifest["python"]["distribution"] == "anaconda"
    told(manifest, record_property)


@pytest.mark.budget(1800)
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a user of its own, which takes root")
@pytest.mark.verifies("complete build as an unprivileged user, with a private home and umask 077")
def test_an_ordinary_user_builds(record_property: Callable[..., None]) -> None:
    user = "mlflow-image-test"
    remove(user)
    subprocess.run(["useradd", "--create-home", user], check=True)
    home = Path(pwd.getpwnam(user).pw_dir)
    home.chmod(0o700)
    try:
        copy = home / "checkout"
        subprocess.run(["git", "clone", "--quiet", CHECKOUT, copy], check=True)
        subprocess.run(["chown", "-R", f"{user}:", home], check=True)
        # Some of them root skips.
        typed_by(user, "test --only unit")
        done = typed_by(user, "build-image --python system --packages server")
        assert MADE_ON_HOST in done.stdout
        told(made(copy / "dist" / "latest", done.stdout), record_property)
    finally:
        remove(user)


def remove(user: str) -> None:
    """With its files: its home, and what its own tests left."""
    subprocess.run(["userdel", "--remove", user], capture_output=True, check=False)
    shutil.rmtree(Path(tempfile.gettempdir()) / f"pytest-of-{user}", ignore_errors=True)


def typed_by(user: str, words: str) -> subprocess.CompletedProcess[str]:
    """What a task prints for this user, whose files nobody else may read; it must succeed."""
    done = subprocess.run(
        [
            *("su", user, "-c"),
            # Folders of root's own PATH may be closed to the user.
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
