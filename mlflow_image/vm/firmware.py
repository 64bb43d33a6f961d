"""The VM's firmware: BIOS, UEFI or Secure Boot, its variable store, and QEMU's options for it."""

from __future__ import annotations

from pathlib import Path

from mlflow_image.errors import Refusal
from mlflow_image.host import qemu_img

FIRMWARES = ("bios", "uefi", "secureboot")
VARS_NAME = "uefi-vars.qcow2"

_OVMF = Path("/usr/share/OVMF")
#: Code and variable store in order of preference; newer releases lack the 2 MB files.
OVMF_FILES = {
    "uefi": (
        (_OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd"),
        (_OVMF / "OVMF_CODE.fd", _OVMF / "OVMF_VARS.fd"),
    ),
    # The `.ms` variables contain Microsoft's keys, which sign the distributions' shim.
    "secureboot": (
        (_OVMF / "OVMF_CODE_4M.secboot.fd", _OVMF / "OVMF_VARS_4M.ms.fd"),
        (_OVMF / "OVMF_CODE.secboot.fd", _OVMF / "OVMF_VARS.ms.fd"),
    ),
}


def make_variables(directory: Path, firmware: str) -> None:
    """Create the VM's own copy of the UEFI variables."""
    if firmware != "bios":
        _, variables = ovmf_files(firmware)
        qemu_img.to_qcow2(variables, directory / VARS_NAME)


def ovmf_files(firmware: str) -> tuple[Path, Path]:
    """The firmware's code and its variable template on this host.

    Raises Refusal when the firmware is unknown or its files are not installed.
    """
    if firmware not in OVMF_FILES:
        raise Refusal(f"unknown firmware {firmware!r}", remedy=f"use {', '.join(FIRMWARES)}")
    for code, variables in OVMF_FILES[firmware]:
        if code.is_file() and variables.is_file():
            return code, variables
    raise Refusal(
        f"the {firmware} firmware is not installed on this host", remedy="apt install ovmf"
    )


def firmware_args(firmware: str, directory: Path = Path()) -> list[str]:
    """QEMU's options for a machine with this firmware; `directory` contains its variables."""
    if firmware == "bios":
        # With SeaBIOS 1.15 (Ubuntu 22.04) an emulated q35 hangs when it reboots: the firmware
        # does not find the host bridge, "Unable to unlock ram". Later versions are fixed.
        return ["-machine", "pc"]
    code, _ = ovmf_files(firmware)
    words = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
    words += ["-drive", f"if=pflash,unit=1,format=qcow2,file={directory / VARS_NAME}"]
    words += ["-machine", "q35"]
    if firmware == "secureboot":
        # Without SMM the guest could write the variables that Secure Boot trusts.
        words += ["-machine", "smm=on"]
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        words += ["-global", "ICH9-LPC.disable_s3=1"]
    return words
