"""A full disk of the host: work ends soon, says how much is missing where, and leaves nothing.

A tmpfs stands in for the disk: it reports ENOSPC as a disk does, and its size can be changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from mlflow_image import space

from .conftest import CHECKOUT, Tasks

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount file systems")

LAYERS = ["base", "python", "image-files", "sealed"]
#: How soon after the disk became full everything must have ended.
ENDS_WITHIN_S = 30
#: More than any of these tests needs; a tmpfs takes only the memory for what is written.
ENOUGH_MIB = 8_000
BUILD = ("build-image", "--offline", "--python", "system")


@dataclass
class Disk:
    """A disk of this test. full_at: when less was free than work should leave, if ever."""

    path: Path
    full_at: float | None = None
    output: list[str] = field(default_factory=list)

    def resize(self, size_mib: int) -> None:
        # A tmpfs of size 0 has no limit at all.
        remount = ["mount", "-o", f"remount,size={max(1, size_mib)}M", str(self.path)]
        subprocess.run(remount, check=True)

    @property
    def used_mib(self) -> int:
        stat = os.statvfs(self.path)
        return -(-(stat.f_blocks - stat.f_bfree) * stat.f_frsize // space.MIB)

    def leave(self, free_mib: int) -> None:
        """Take the space away that is free, except for this much."""
        for more in range(100):  # until no writer is faster
            with contextlib.suppress(subprocess.CalledProcessError):
                return self.resize(self.used_mib + free_mib + more)
        raise AssertionError("the disk could not be made smaller")

    def watch(self, process: subprocess.Popen[str]) -> None:
        """Note when the disk becomes full, while a process runs."""
        while process.poll() is None and self.full_at is None:
            if space.free_mib(self.path) < space.RESERVE_MIB:
                self.full_at = time.monotonic()
            time.sleep(0.05)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ENOUGH_MIB}M", "stand-in", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def cached(tasks: Tasks, image: Path, disk: Disk) -> Callable[[str], Tasks]:
    """Tasks with a cache on the disk: it has the inputs and the layers below the given one."""

    def make(layer: str) -> Tasks:
        whole, cache = Path(tasks.environment["MLFLOW_IMAGE_CACHE"]), disk.path / "cache"
        (cache / "layers").mkdir(parents=True)
        for name in ("store", "apt", "packer"):
            (cache / name).symlink_to(whole / name)
        for name in LAYERS[: LAYERS.index(layer)]:
            for folder in (whole / "layers").glob(f"{name}-????????????????"):
                (cache / "layers" / folder.name).symlink_to(folder)
        return Tasks({**tasks.environment, "MLFLOW_IMAGE_CACHE": str(cache)})

    return make


def assert_nothing_is_left(disk: Disk) -> None:
    """No half-made layer, no scratch space, no process that works there."""
    cache = disk.path / "cache"
    assert [path.name for path in (cache / "layers").iterdir() if not path.is_symlink()] == []
    for name in ("work", "machines", "claims"):
        assert list((cache / name).glob("*")) == [], name
    words = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    assert not [line for line in words if any(str(disk.path) in word for word in line)]


@pytest.mark.budget(10)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("free_mib", [0, 1, 100, 400])
def test_a_build_on_a_small_disk_is_refused_at_once(
    cached: Callable[[str], Tasks], disk: Disk, layer: str, free_mib: int
) -> None:
    tasks = cached(layer)
    disk.leave(free_mib)
    if not free_mib:
        fill(disk.path / "full")
    started = time.monotonic()
    done = tasks(*BUILD)
    assert time.monotonic() - started < ENDS_WITHIN_S
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert f"{disk.path}/cache" in done.stderr
    if free_mib:
        assert f"MiB are needed in {disk.path}/cache, " in done.stderr
        free = re.search(r" (\d+) MiB are free", done.stderr)
        assert free and free_mib - 1 <= int(free[1]) <= free_mib + 1
    assert_nothing_is_left(disk)


def fill(path: Path) -> None:
    """Write a file until the disk is full; at most 2 MiB, because it is nearly full already."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for _ in range(512):
            file.write(b"x" * 4096)


#: Layer, the output after which space is taken away, seconds to wait then, MiB to leave.
MOMENTS = [
    ("base", ".. base", 0.0, 0),
    ("base", ".. base", 10.0, 0),
    ("base", ".. base", 1.0, 400),
    ("base", ".. base", 1.0, 900),
    ("base", "- unpacking and configuring", 2.0, 0),
    ("base", "- unpacking and configuring", 0.0, 700),
    ("python", ".. python", 0.0, 0),
    ("python", ".. python", 0.0, 300),
    ("python", "- creating /opt/mlflow", 1.0, 0),
    ("python", "- installing 1", 0.0, 150),
    ("python", "- creating the empty database", 0.5, 0),
    ("python", "- packing /opt/mlflow", 0.5, 0),
    ("python", "- packing /opt/mlflow", 0.0, 900),
    ("image-files", ".. image-files", 0.0, 0),
    ("image-files", "- preparing the build VM", 0.0, 0),
    ("image-files", "- preparing the build VM", 10.0, 0),
    ("image-files", "- booting the build VM", 0.0, 200),
    ("image-files", "- users, folders, bytecode", 1.0, 0),
    ("image-files", "- users, folders, bytecode", 0.0, 400),
    ("sealed", ".. sealed", 0.0, 0),
    ("sealed", ".. sealed", 4.0, 0),
    ("sealed", ".. sealed", 0.0, 1000),
    ("sealed", ".. sealed", 0.0, 2000),
    ("sealed", "- filtering the tree", 0.5, 0),
    ("sealed", "- filtering the tree", 0.0, 300),
]


@pytest.mark.full
@pytest.mark.budget(200)
@pytest.mark.verifies("the host's disk fills up while a layer is made: the build ends, clean")
@pytest.mark.parametrize(("layer", "after", "wait_s", "left_mib"), MOMENTS)
def test_a_disk_that_fills_up_ends_the_build(
    cached: Callable[[str], Tasks], disk: Disk, layer: str, after: str, wait_s: float, left_mib: int
) -> None:
    process = cached(layer).start(*BUILD, "--no-verify")

    def take_space() -> None:
        time.sleep(wait_s)
        disk.leave(left_mib)
        disk.watch(process)

    taking = threading.Thread(target=take_space, daemon=True)
    assert process.stdout is not None
    for line in process.stdout:
        disk.output.append(line)
        if after in line and taking.ident is None:
            taking.start()
    code, ended_at = process.wait(), time.monotonic()
    output = "".join(disk.output)
    assert taking.ident is not None, output
    taking.join()
    assert code == 1, output
    assert disk.full_at is not None, output
    assert ended_at - disk.full_at < ENDS_WITHIN_S, output
    assert f"the layer {layer}: the disk is full: {disk.path}/cache has " in output
    assert " would be needed" in output
    assert "What to do: free at least " in output
    assert "made in a VM" not in output
    assert "disk_mib" not in output
    assert_nothing_is_left(disk)


@pytest.mark.full
@pytest.mark.budget(200)
@pytest.mark.verifies("the host's disk fills up during a verification: the image is not blamed")
def test_a_disk_that_fills_up_during_a_verification_says_nothing_about_the_image(
    tasks: Tasks, image: Path, disk: Disk
) -> None:
    before = (image / "manifest.json").read_bytes()
    own = Tasks({**tasks.environment, "MLFLOW_IMAGE_CACHE": str(disk.path / "cache")})
    (disk.path / "cache" / "layers").mkdir(parents=True)
    process = own.start("verify-image", "--image", str(image))
    assert process.stdout is not None
    output = process.stdout.readline()
    while ".. verifying" not in output:
        output += process.stdout.readline()
    time.sleep(15)
    disk.leave(0)
    output += process.communicate(timeout=150)[0]
    assert process.returncode == 1, output
    assert "QEMU paused the VM, because it could not write to this host's full disk" in output
    assert (image / "manifest.json").read_bytes() == before
    assert_nothing_is_left(disk)


@pytest.fixture
def own_checkout(image: Path, disk: Disk) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs tasks in a checkout whose VMs are on the disk."""
    copy = disk.path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "dist", ".mlflow-image")
    shutil.copytree(CHECKOUT, copy, ignore=ignored, symlinks=True)

    def run(*words: str, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies("the host's disk fills up below a running VM: it pauses and continues")
def test_a_vm_on_a_full_disk_pauses_says_so_and_continues(
    own_checkout: Callable[..., subprocess.CompletedProcess[str]], image: Path, disk: Disk
) -> None:
    run = own_checkout
    done = run("up", "--name", "test-full", "--image", str(image))
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        write = (
            "echo begun; sleep 10; dd if=/dev/urandom of=written bs=1M count=60 status=none; sync; "
            "sha256sum written"
        )
        ssh = [sys.executable, "-m", "invoke", "ssh", "--name", "test-full", "--command", write]
        copy = disk.path / "checkout"
        writing = subprocess.Popen(
            ssh,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writing.stdout is not None
        assert "begun" in writing.stdout.readline()
        disk.leave(1)
        deadline = time.monotonic() + 60
        status = run("status")
        while "paused" not in status.stdout and time.monotonic() < deadline:
            time.sleep(1)
            status = run("status")
        assert "paused" in status.stdout
        assert "warning: VM test-full: QEMU paused the VM" in status.stderr
        for task in ("stop", "start", "ssh"):
            refused = run(task, "--name", "test-full", timeout_s=ENDS_WITHIN_S)
            assert refused.returncode in (1, 2), refused.stdout
            assert "MiB are needed" in refused.stderr
        disk.resize(ENOUGH_MIB)
        continued = run("start", "--name", "test-full")
        assert continued.returncode == 0, continued.stdout + continued.stderr
        written = writing.communicate(timeout=100)[0]
        check = (
            "echo 3 | sudo tee /proc/sys/vm/drop_caches; sha256sum written; sudo dmesg | grep I/O"
        )
        again = run("ssh", "--name", "test-full", "--command", check)
        assert written.split()[0] in again.stdout
        assert "I/O error" not in again.stdout
        assert "ready" in run("status").stdout
    finally:
        removed = run("down", "--name", "test-full")
    assert removed.returncode == 0, removed.stderr
