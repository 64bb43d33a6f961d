"""Makes a layer in a VM: boots the base's disk, runs the steps by Packer, takes the tar."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image import watch
from mlflow_image.builder.bake import chroot, packer, payload, steps
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.bake.template import PackerBuild
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.builder.place import Place
from mlflow_image.host import accelerator, qemu_img, resources
from mlflow_image.paths import HERE, Checkout
from mlflow_image.vm import monitor, paused, seed
from mlflow_image.vm.firmware import firmware_args, make_variables

CPUS = 2
#: Room for the tar that a layer hands over; a sparse file that takes only what the tar takes.
HANDOVER_MIB = 32768


@dataclass(frozen=True)
class How:
    """How build VMs run; nothing here changes what a layer is.

    keep_on_error: keep the VM of a failed step running, for inspection.
    """

    packer: Packer
    firmware: str = "bios"
    keep_on_error: bool = False


@dataclass(frozen=True)
class Job:
    """One layer to make in a VM.

    files: the payload, name -> file. settings: environment of the steps; no secrets.
    opt: a file system that the guest mounts at /opt, read-only.
    """

    layer: str
    base_disk: Path
    files: Mapping[str, Path]
    settings: Mapping[str, str]
    place: Place
    how: How
    opt: Path | None = None
    of_cloud_image: bool = False
    checkout: Checkout = field(default=HERE)


@dataclass(frozen=True)
class Disks:
    """The files behind the build VM's disks."""

    main: Path
    payload: Path
    handover: Path
    opt: Path | None = None


def run(job: Job) -> Path:
    """Make one layer in a VM on the base's disk; returns the tar of its result.

    The guest has no network except Packer's ssh, forwarded from the host's loopback.
    Raises Failure with the step, its output and the guest's console, and when QEMU paused the VM
    because the host could not write.
    """
    place, work = job.place, job.place.work
    place.step.phase("preparing the build VM")
    public_key = seed.make_key(work)
    access = payload.access(
        public_key, work, of_cloud_image=job.of_cloud_image, checkout=job.checkout
    )
    output = work / "output"
    disks = Disks(
        main=output / "disk.qcow2",
        payload=payload.write_disc({**access, **job.files}, work),
        handover=sparse(work / "handover.raw"),
        opt=job.opt,
    )
    overlay = work / "overlay.qcow2"
    qemu_img.overlay(job.base_disk, overlay)
    make_variables(work, job.how.firmware)
    build = PackerBuild(
        vm_name=disks.main.name,
        output=str(output),
        overlay=str(overlay),
        key=str(work / seed.KEY_NAME),
        qemu_args=qemu_args(disks, place, job.how.firmware),
        scripts=tuple(map(str, steps.scripts_of(job.layer, job.checkout))),
        environment=tuple(f"{name}={value}" for name, value in environment(job).items()),
        # The disk is thrown away, so no service needs to stop.
        shutdown_command="systemctl poweroff -ff",
        ssh_timeout="15m",
        mounts=mounts(disks),
    )
    with watch.during(paused.Check(work)):
        packer.run(job.how.packer, build, place, job.checkout, keep_on_error=job.how.keep_on_error)
    disks.main.unlink(missing_ok=True)
    cut_after_data(disks.handover)
    return disks.handover


def environment(job: Job) -> dict[str, str]:
    """The environment of the steps."""
    return {
        **job.settings,
        "PAYLOAD": chroot.PAYLOAD,
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        "HANDOVER": "/dev/disk/by-id/virtio-handover",
    }


def mounts(disks: Disks) -> tuple[str, ...]:
    """The commands that give the steps their payload, and /opt if it is a disk."""
    payload_at = chroot.PAYLOAD
    found = (
        "udevadm settle",
        f"mkdir -p {payload_at}",
        f"mount -o ro LABEL=cidata {payload_at}",
    )
    return (*found, "mount -o ro /dev/disk/by-id/virtio-opt /opt") if disks.opt else found


def qemu_args(disks: Disks, place: Place, firmware: str) -> tuple[tuple[str, ...], ...]:
    """All of QEMU's switches: naming one replaces every switch that Packer would give."""
    blk = "virtio-blk-pci"
    # {{ .SSHHostPort }} is Packer's; naming the address keeps the build VM off the network.
    network = "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"
    written = f"cache=unsafe,{paused.PAUSE_ON_ERROR}"
    words = [
        *accelerator.choose().qemu_args,
        *("-m", f"{resources.build_vm_memory_mib()}M", "-smp", str(CPUS), "-display", "none"),
        *firmware_args(firmware, place.work),
        *("-drive", f"if=none,id=main,file={disks.main},format=qcow2,discard=unmap,{written}"),
        *("-drive", f"if=none,id=payload,file={disks.payload},format=raw,readonly=on"),
        *("-drive", f"if=none,id=handover,file={disks.handover},format=raw,{written}"),
        *("-device", f"{blk},drive=main,bootindex=0", "-device", f"{blk},drive=payload"),
        *("-device", f"{blk},drive=handover,serial=handover"),
        *opt_args(disks.opt),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=user.0"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng"),
        *("-serial", f"file:{place.logs / packer.CONSOLE_LOG}"),
        # Relative to Packer's working directory: the path of a Unix socket has at most 107 bytes.
        *("-qmp", f"unix:{monitor.SOCKET_NAME},server=on,wait=off"),
    ]
    return tuple(zip(words[::2], words[1::2], strict=True))


def opt_args(opt: Path | None) -> tuple[str, ...]:
    """QEMU's switches for the disk that the guest mounts at /opt."""
    if not opt:
        return ()
    drive = f"if=none,id=opt,file={opt},format=raw,readonly=on"
    return ("-drive", drive, "-device", "virtio-blk-pci,drive=opt,serial=opt")


def sparse(disc: Path) -> Path:
    """An empty disc for the guest's tar."""
    with disc.open("wb") as file:
        file.truncate(HANDOVER_MIB << 20)
    return disc


def cut_after_data(disc: Path) -> None:
    """Shorten a sparse disc to its last written block; the rest reads as zeros."""
    with disc.open("r+b") as file:
        end, size = 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: no data after this place (lseek(2))
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
        file.truncate(end)
