"""A VM's specification, the check of its disk, and its QEMU command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.errors import Refusal
from mlflow_image.host import qemu_img
from mlflow_image.host.accelerator import Accelerator
from mlflow_image.vm import monitor, paused
from mlflow_image.vm.firmware import firmware_args

OVERLAY_NAME = "disk.qcow2"
CONSOLE_SOCKET = "console.sock"
CONSOLE_LOG = "console.log"


@dataclass(frozen=True)
class Spec:
    """One VM: its backing disk and its virtual hardware.

    backing: the disk below the VM's overlay; never written to.
    disk_bytes: size of the VM's disk; None takes the backing disk's size.
    forwards: guest port -> wanted port on 127.0.0.1 (0: any free one); 22 is always forwarded.
    network_card: the network card as QEMU's -device; it may have mac= and addr=.
    clock: the time at power-on as QEMU's -rtc base; empty is the host's time.
    throwaway: data need not survive: no fsync reaches the host, and QEMU ends with this process.
    power_cuts: of a throwaway VM: its fsyncs do reach the host, so that killing QEMU leaves what
    a power cut leaves of the guest's data.
    """

    backing: Path
    memory_mib: int = 2048
    cpus: int = 2
    disk_bytes: int | None = None
    forwards: Mapping[int, int] = field(default_factory=dict)
    firmware: str = "bios"
    hostname: str = "vm"
    ssh_user: str = "ubuntu"
    restrict_network: bool = False
    network_card: str = "virtio-net-pci"
    clock: str = ""
    throwaway: bool = False
    power_cuts: bool = False


def check_disk(spec: Spec) -> None:
    """Raise Refusal if the backing disk has another format, is damaged, or is larger than the VM's.

    The format and the size that are expected are the specification's.
    """
    if not spec.backing.is_file():
        raise Refusal(f"{spec.backing} is not a file")
    info = qemu_img.info(spec.backing)
    if info["format"] != "qcow2":
        raise Refusal(f"{spec.backing} is not a qcow2 disk image; it is {info['format']}")
    if damage := qemu_img.damage(spec.backing):
        raise Refusal(f"{spec.backing} is a damaged qcow2: {damage}")
    size_bytes = int(info["virtual-size"])
    if spec.disk_bytes is not None and spec.disk_bytes < size_bytes:
        raise Refusal(
            f"a disk of {spec.disk_bytes / 2**30:.1f} GiB is too small: "
            f"the image itself has {size_bytes / 2**30:.1f} GiB"
        )


def argv(
    spec: Spec,
    accelerator: Accelerator,
    ports: Mapping[int, int],
) -> list[str]:
    """QEMU's command line; its paths are relative to the VM's directory, QEMU's working directory.

    Relative, because the path of a Unix socket has at most 107 bytes. ports: guest port
    -> port on 127.0.0.1, where 0 lets the kernel choose (`info usernet` then shows which).
    """
    cache = "unsafe" if spec.throwaway and not spec.power_cuts else "writeback"
    network = "user,id=net" + (",restrict=on" if spec.restrict_network else "")
    for guest, host in sorted(ports.items()):
        network += f",hostfwd=tcp:127.0.0.1:{host}-:{guest}"
    words = ["qemu-system-x86_64", "-name", f"mlflow-image-{spec.hostname}", *accelerator.qemu_args]
    words += ["-no-user-config", "-nodefaults", "-display", "none"]
    words += ["-m", f"{spec.memory_mib}M", "-smp", str(spec.cpus)]
    words += firmware_args(spec.firmware)
    if spec.clock:
        words += ["-rtc", f"base={spec.clock}"]
    words += [
        "-drive",
        f"if=none,id=disk,file={OVERLAY_NAME},format=qcow2,{_DISCARD},cache={cache},"
        f"{paused.PAUSE_ON_ERROR}",
    ]
    words += ["-device", "virtio-blk-pci,drive=disk,bootindex=0"]
    words += ["-drive", "if=none,id=seed,file=seed.iso,format=raw,readonly=on"]
    words += ["-device", "virtio-blk-pci,drive=seed"]
    words += ["-netdev", network, "-device", f"{spec.network_card},netdev=net"]
    words += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
    words += ["-device", "virtio-rng-pci,rng=rng"]
    words += ["-chardev", f"socket,id=console,{_SERVER},path={CONSOLE_SOCKET},{_LOGGED}"]
    words += ["-serial", "chardev:console"]
    words += ["-chardev", f"socket,id=monitor,{_SERVER},path={monitor.SOCKET_NAME}"]
    words += ["-mon", "chardev=monitor,mode=control"]
    return words


_DISCARD = "discard=unmap"
_SERVER = "server=on,wait=off"
_LOGGED = f"logfile={CONSOLE_LOG},logappend=on"
