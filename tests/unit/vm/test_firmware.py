"""The firmware: its files on this host, its variables, QEMU's arguments for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Refusal
from mlflow_image.host import qemu_img
from mlflow_image.vm import firmware


def line(name: str) -> str:
    return " ".join(firmware.firmware_args(name))


@pytest.fixture
def ovmf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    code, variables = tmp_path / "code.fd", tmp_path / "vars.fd"
    code.write_bytes(bytes(65536))
    variables.write_bytes(b"vars" + bytes(65532))
    missing = (tmp_path / "none", variables)
    files = dict.fromkeys(("uefi", "secureboot"), (missing, (code, variables)))
    monkeypatch.setattr(firmware, "OVMF_FILES", files)
    return code


def test_bios_and_uefi_use_a_machine_type_on_which_they_can_reboot(ovmf: Path) -> None:
    assert "-machine pc" in line("bios")
    for name in ("uefi", "secureboot"):
        assert "-machine q35" in line(name)


def test_secure_boot_protects_its_variables_with_smm(ovmf: Path) -> None:
    words = line("secureboot")
    assert "smm=on" in words
    assert "cfi.pflash01,property=secure,value=on" in words
    assert f"readonly=on,file={ovmf}" in words
    assert "smm=on" not in line("uefi")
    assert "pflash" not in line("bios")


def test_uefi_variables_are_the_vms_own_qcow2(ovmf: Path, tmp_path: Path) -> None:
    firmware.make_variables(tmp_path, "uefi")
    info = qemu_img.info(tmp_path / firmware.VARS_NAME)
    assert info["format"] == "qcow2"
    assert info["virtual-size"] == 65536


def test_missing_firmware_is_refused_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(firmware, "OVMF_FILES", {"uefi": ((Path("/none"), Path("/none")),)})
    with pytest.raises(Refusal) as refusal:
        firmware.ovmf_files("uefi")
    assert "apt install ovmf" in refusal.value.remedy
