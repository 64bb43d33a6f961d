"""QEMU's command line, and disks that are refused."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.host.accelerator import Accelerator
from mlflow_image.vm import qemu
from mlflow_image.vm.qemu import Spec

TCG = Accelerator("tcg", "a test")


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    disk = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    return disk


def line(spec: Spec) -> str:
    return " ".join(qemu.argv(spec, TCG, {22: 0, 8000: 8123}))


def test_every_forward_is_bound_to_loopback() -> None:
    words = line(Spec(Path("/image")))
    assert "hostfwd=tcp:127.0.0.1:0-:22" in words
    assert "hostfwd=tcp:127.0.0.1:8123-:8000" in words
    assert words.count("hostfwd=") == words.count("hostfwd=tcp:127.0.0.1:")


def test_only_a_throwaway_vm_has_an_unsafe_disk_cache() -> None:
    spec = Spec(Path("/image"))
    assert "cache=writeback" in line(spec)
    assert "unsafe" not in line(spec)
    assert "cache=unsafe" in line(replace(spec, throwaway=True))


def test_socket_paths_are_relative_because_their_length_is_limited() -> None:
    words = line(Spec(Path("/image")))
    assert "path=qmp.sock" in words
    assert "path=console.sock" in words


def test_a_restricted_network_keeps_its_forwards() -> None:
    words = line(Spec(Path("/image"), restrict_network=True))
    assert "user,id=net,restrict=on,hostfwd=" in words


def test_a_disk_smaller_than_its_image_is_refused_with_numbers(backing: Path) -> None:
    with pytest.raises(Refusal, match=r"0\.0 GiB is too small.* 0\.1 GiB"):
        qemu.check_disk(Spec(backing, disk_bytes=2**20))


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a disk\n" * 100)
    with pytest.raises(Refusal, match=r"notes\.txt is not a qcow2"):
        qemu.check_disk(Spec(text))
    with pytest.raises(Refusal, match="is not a file"):
        qemu.check_disk(Spec(tmp_path / "nowhere"))


def test_a_truncated_image_is_refused(backing: Path) -> None:
    subprocess.run(["qemu-io", "-c", "write 0 8M", backing], check=True, capture_output=True)
    qemu.check_disk(Spec(backing))
    with backing.open("r+b") as file:
        file.truncate(4 * 2**20)
    with pytest.raises(Refusal, match=r"image\.qcow2 is"):
        qemu.check_disk(Spec(backing))


def test_a_vm_forwards_only_the_requested_ports() -> None:
    assert Spec(Path("/image")).forwards == {}
    assert "8000" not in " ".join(qemu.argv(Spec(Path("/image")), TCG, {22: 0}))


def test_a_vm_has_the_hosts_time_and_one_network_card_unless_told_otherwise() -> None:
    spec = Spec(Path("/image"))
    assert "-rtc" not in line(spec)
    assert "-device virtio-net-pci,netdev=net" in line(spec)
    other = replace(spec, clock="2026-01-01T00:00:00", network_card="e1000e,addr=0x10")
    assert "-rtc base=2026-01-01T00:00:00" in line(other)
    assert "-device e1000e,addr=0x10,netdev=net" in line(other)


def test_a_failed_write_of_the_host_pauses_the_guest() -> None:
    assert "id=disk,file=disk.qcow2,format=qcow2,discard=unmap,cache=writeback,werror=stop" in line(
        Spec(Path("/image"))
    )
