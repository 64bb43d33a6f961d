"""QEMU's command line, overlays and firmware files."""

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


@pytest.fixture
def ovmf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    code, variables = tmp_path / "code.fd", tmp_path / "vars.fd"
    code.write_bytes(bytes(65536))
    variables.write_bytes(b"vars" + bytes(65532))
    missing = (tmp_path / "none", variables)
    files = dict.fromkeys(("uefi", "secureboot"), (missing, (code, variables)))
    monkeypatch.setattr(qemu, "OVMF_FILES", files)
    return code


def line(spec: Spec, **options: str) -> str:
    return " ".join(qemu.argv(spec, TCG, {22: 0, 8000: 8123}, **options))


def test_every_forward_is_bound_to_loopback() -> None:
    words = line(Spec(Path("/image")))
    assert "hostfwd=tcp:127.0.0.1:0-:22" in words
    assert "hostfwd=tcp:127.0.0.1:8123-:8000" in words
    assert words.count("hostfwd=") == words.count("hostfwd=tcp:127.0.0.1:")


def test_only_a_throwaway_vm_may_lose_what_it_wrote() -> None:
    spec = Spec(Path("/image"))
    assert "cache=writeback" in line(spec)
    assert "unsafe" not in line(spec)
    assert "cache=unsafe" in line(replace(spec, throwaway=True))


def test_sockets_are_relative_so_that_a_deep_directory_does_not_matter() -> None:
    words = line(Spec(Path("/image")))
    assert "path=qmp.sock" in words
    assert "path=console.sock" in words


def test_a_restricted_network_still_has_its_forwards() -> None:
    words = line(Spec(Path("/image"), restrict_network=True))
    assert "user,id=net,restrict=on,hostfwd=" in words


def test_a_snapshot_is_resumed() -> None:
    assert line(Spec(Path("/image")), snapshot="ready").endswith("-loadvm ready")


def test_bios_and_uefi_have_each_the_machine_that_they_reboot_on(ovmf: Path) -> None:
    assert "-machine pc " in line(Spec(Path("/image")))
    for firmware in ("uefi", "secureboot"):
        assert "-machine q35" in line(Spec(Path("/image"), firmware=firmware))


def test_secure_boot_protects_its_variables_by_smm(ovmf: Path) -> None:
    words = line(Spec(Path("/image"), firmware="secureboot"))
    assert "smm=on" in words
    assert "cfi.pflash01,property=secure,value=on" in words
    assert f"readonly=on,file={ovmf}" in words
    assert "smm=on" not in line(Spec(Path("/image"), firmware="uefi"))
    assert "pflash" not in line(Spec(Path("/image")))


def test_uefi_variables_are_the_vms_own_qcow2(ovmf: Path, tmp_path: Path) -> None:
    qemu.make_variables(tmp_path, "uefi")
    info = qemu.disk_info(tmp_path / qemu.VARS_NAME)
    assert info["format"] == "qcow2"
    assert info["virtual-size"] == 65536


def test_missing_firmware_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "OVMF_FILES", {"uefi": ((Path("/none"), Path("/none")),)})
    with pytest.raises(Refusal) as refusal:
        qemu.ovmf_files("uefi")
    assert "apt install ovmf" in refusal.value.remedy


def test_the_overlay_names_its_backing_by_absolute_path_and_format(
    backing: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "vm"
    directory.mkdir()
    qemu.make_overlay(directory, Spec(backing, disk_bytes=2**30))
    info = qemu.disk_info(directory / qemu.OVERLAY_NAME)
    assert info["backing-filename"] == str(backing)
    assert info["backing-filename-format"] == "qcow2"
    assert info["virtual-size"] == 2**30
    chain = qemu.backing_chain(directory / qemu.OVERLAY_NAME)
    assert chain == [directory / qemu.OVERLAY_NAME, backing]


def test_a_disk_smaller_than_its_image_is_refused_with_numbers(backing: Path) -> None:
    with pytest.raises(Refusal, match=r"0\.0 GiB is too small.* 0\.1 GiB"):
        qemu.check_disk(Spec(backing, disk_bytes=2**20))


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a disk\n" * 100)
    with pytest.raises(Refusal, match=r"notes\.txt is no qcow2"):
        qemu.check_disk(Spec(text))
    with pytest.raises(Refusal, match="is no file"):
        qemu.check_disk(Spec(tmp_path / "nowhere"))


def test_an_image_that_was_cut_short_is_refused(backing: Path) -> None:
    subprocess.run(["qemu-io", "-c", "write 0 8M", backing], check=True, capture_output=True)
    qemu.check_disk(Spec(backing))
    with backing.open("r+b") as file:
        file.truncate(4 * 2**20)
    with pytest.raises(Refusal, match=r"image\.qcow2 is"):
        qemu.check_disk(Spec(backing))
