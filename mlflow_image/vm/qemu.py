"""What QEMU is given: a VM's specification becomes an overlay, firmware files, a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Refusal
from mlflow_image.host.accelerator import Accelerator
from mlflow_image.vm import monitor

FIRMWARES = ("bios", "uefi", "secureboot")
OVERLAY_NAME = "disk.qcow2"
VARS_NAME = "uefi-vars.qcow2"
CONSOLE_SOCKET = "console.sock"
CONSOLE_LOG = "console.log"

_OVMF = Path("/usr/share/OVMF")
#: Code and variable store, in the order of preference; the 2 MB ones are gone in newer releases.
OVMF_FILES = {
    "uefi": (
        (_OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd"),
        (_OVMF / "OVMF_CODE.fd", _OVMF / "OVMF_VARS.fd"),
    ),
    # The `.ms` variables carry Microsoft's keys, which sign the distributions' shim.
    "secureboot": (
        (_OVMF / "OVMF_CODE_4M.secboot.fd", _OVMF / "OVMF_VARS_4M.ms.fd"),
        (_OVMF / "OVMF_CODE.secboot.fd", _OVMF / "OVMF_VARS.ms.fd"),
    ),
}


@dataclass(frozen=True)
class Spec:
    """One VM: what it stands on and what it gets.

    backing: the disk that the VM's overlay lies over; never written to.
    disk_bytes: size of the VM's disk; None is the backing disk's own.
    forwards: guest port -> wished port on 127.0.0.1 (0: a free one); 22 is always there.
    throwaway: nothing of it must survive: no fsync reaches the host, and QEMU dies with us.
    """

    backing: Path
    backing_format: str = "qcow2"
    memory_mib: int = 2048
    cpus: int = 2
    disk_bytes: int | None = None
    forwards: Mapping[int, int] = field(default_factory=lambda: {8000: 0})
    firmware: str = "bios"
    hostname: str = "mlflow"
    ssh_user: str = "ubuntu"
    restrict_network: bool = False
    throwaway: bool = False


def check_disk(spec: Spec) -> None:
    """Refuse a backing disk that is not what the specification says, or is larger than the VM's.

    `qemu-img check` reads the tables only, and finds a file that was cut short. Raises Refusal.
    """
    if not spec.backing.is_file():
        raise Refusal(f"{spec.backing} is no file")
    info = disk_info(spec.backing)
    if info["format"] != spec.backing_format:
        raise Refusal(f"{spec.backing} is no {spec.backing_format} disk image")
    if spec.backing_format == "qcow2":
        done = command.run(["qemu-img", "check", "-U", "-q", spec.backing], check=False)
        # 3 is "leaked clusters": wasted space, harmless.
        if done.returncode not in (0, 3):
            raise Refusal(
                f"{spec.backing} is a damaged qcow2: {command.last_lines(done.stderr, 1)}"
            )
    size = int(str(info["virtual-size"]))
    if spec.disk_bytes is not None and spec.disk_bytes < size:
        raise Refusal(
            f"a disk of {spec.disk_bytes / 2**30:.1f} GiB is too small: "
            f"the image itself has {size / 2**30:.1f} GiB"
        )


def disk_info(path: Path) -> dict[str, object]:
    """What `qemu-img info` says of a disk: `format`, `virtual-size` in bytes, ...

    -U reads it also while a VM runs from it. Raises Refusal when qemu-img cannot read it.
    """
    done = command.run(["qemu-img", "info", "-U", "--output=json", path], check=False)
    if done.returncode != 0:
        raise Refusal(f"{path} is no disk image: {command.last_lines(done.stderr, 1)}")
    return dict(json.loads(done.stdout))


def backing_chain(path: Path) -> list[Path]:
    """A disk and every disk below it, as absolute paths; the disk alone when it is unreadable."""
    words: list[str | Path] = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", path]
    done = command.run(words, check=False)
    chain = json.loads(done.stdout) if done.returncode == 0 else []
    return [path, *(Path(link["filename"]).resolve() for link in chain[1:])]


def make_overlay(directory: Path, spec: Spec) -> None:
    """Make the VM's own disk: an overlay that names its backing disk by absolute path.

    The backing format is explicit: were it guessed, a guest on a raw disk could write a
    qcow2 header there and so name any file of the host.
    """
    words: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    words += ["-F", spec.backing_format, "-b", spec.backing.resolve(), directory / OVERLAY_NAME]
    command.run([*words, str(spec.disk_bytes)] if spec.disk_bytes else words)


def make_variables(directory: Path, firmware: str) -> None:
    """Give the VM its own copy of the UEFI variables, as qcow2 so that snapshots take it in."""
    if firmware != "bios":
        _, variables = ovmf_files(firmware)
        target = directory / VARS_NAME
        command.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", variables, target])


def ovmf_files(firmware: str) -> tuple[Path, Path]:
    """The firmware's code and its variable template on this host.

    Raises Refusal when the firmware is unknown or its files are not installed.
    """
    if firmware not in OVMF_FILES:
        raise Refusal(f"unknown firmware {firmware!r}", remedy=f"one of {', '.join(FIRMWARES)}")
    for code, variables in OVMF_FILES[firmware]:
        if code.is_file() and variables.is_file():
            return code, variables
    raise Refusal(f"the firmware for {firmware} is not on this host", remedy="apt install ovmf")


def argv(
    spec: Spec,
    accelerator: Accelerator,
    ports: Mapping[int, int],
    *,
    snapshot: str | None = None,
) -> list[str]:
    """QEMU's command line; every path is relative to the VM's directory, its working directory.

    Relative, because the path of a unix socket may have 107 bytes only. ports: guest port
    -> port on 127.0.0.1, where 0 lets the kernel choose (`info usernet` then tells which).
    """
    cache = "unsafe" if spec.throwaway else "writeback"
    network = "user,id=net" + (",restrict=on" if spec.restrict_network else "")
    for guest, host in sorted(ports.items()):
        network += f",hostfwd=tcp:127.0.0.1:{host}-:{guest}"
    words = ["qemu-system-x86_64", "-name", f"mlflow-image-{spec.hostname}", *accelerator.qemu_args]
    words += ["-no-user-config", "-nodefaults", "-display", "none"]
    words += ["-m", f"{spec.memory_mib}M", "-smp", str(spec.cpus)]
    words += firmware_args(spec.firmware)
    words += [
        "-drive",
        f"if=none,id=disk,file={OVERLAY_NAME},format=qcow2,{_DISCARD},cache={cache}",
    ]
    words += ["-device", "virtio-blk-pci,drive=disk,bootindex=0"]
    words += ["-drive", "if=none,id=seed,file=seed.iso,format=raw,readonly=on"]
    words += ["-device", "virtio-blk-pci,drive=seed"]
    words += ["-netdev", network, "-device", "virtio-net-pci,netdev=net"]
    words += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
    words += ["-device", "virtio-rng-pci,rng=rng"]
    words += ["-chardev", f"socket,id=console,{_SERVER},path={CONSOLE_SOCKET},{_LOGGED}"]
    words += ["-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=monitor,{_SERVER},path={monitor.SOCKET_NAME}"]
    words += ["-mon", "chardev=monitor,mode=control"]
    return [*words, "-loadvm", snapshot] if snapshot else words


_DISCARD = "discard=unmap"
_SERVER = "server=on,wait=off"
_LOGGED = f"logfile={CONSOLE_LOG},logappend=on"


def firmware_args(firmware: str, directory: Path = Path()) -> list[str]:
    """QEMU's words for a machine with this firmware, whose variables lie in `directory`."""
    if firmware == "bios":
        # An emulated q35 never comes back from a reboot under SeaBIOS 1.15 (Ubuntu 22.04's), which
        # no longer finds its bridge then: "Unable to unlock ram". Mended in later ones.
        return ["-machine", "pc"]
    code, _ = ovmf_files(firmware)
    words = ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
    words += ["-drive", f"if=pflash,unit=1,format=qcow2,file={directory / VARS_NAME}"]
    words += ["-machine", "q35"]
    if firmware == "secureboot":
        # Without SMM the guest itself could write the variables that Secure Boot trusts.
        words += ["-machine", "smm=on"]
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        words += ["-global", "ICH9-LPC.disable_s3=1"]
    return words
