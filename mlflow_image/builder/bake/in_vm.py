"""A layer is baked: a VM on the base's disk, its steps run by Packer, its result taken out."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow_image.builder.bake import chroot, packer, payload
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.bake.template import Bake
from mlflow_image.builder.disk import raw
from mlflow_image.builder.disk.tree import SOURCE_DATE_EPOCH
from mlflow_image.builder.layers import Layer, scripts_of
from mlflow_image.host import accelerator
from mlflow_image.progress import Step
from mlflow_image.vm import qemu, seed

CPUS = 2
#: Room for the tar that a layer hands over; a sparse file that takes what the tar takes.
HANDOVER_MIB = 32768


def run(
    layer: Layer,
    base_disk: Path,
    files: dict[str, Path],
    settings: dict[str, str],
    work: Path,
    logs: Path,
    *,
    with_packer: Packer,
    step: Step,
    opt: Path | None = None,
    firmware: str = "bios",
    keep_on_error: bool = False,
    of_cloud_image: bool = False,
) -> Path:
    """Bake one layer in a VM on the base's disk; returns the tar of what it made.

    files: the payload, name -> path. settings: environment of the steps; no secrets.
    opt: a file system that is /opt there, and that nothing can write to.
    The guest has no network but Packer's own ssh, forwarded from the host's loopback.
    """
    step.phase("preparing the build VM")
    public_key = seed.make_key(work)
    access = payload.access(public_key, work, of_cloud_image=of_cloud_image)
    disc = payload.write_disc(access | files, work)
    overlay = work / "overlay.qcow2"
    raw.overlay(base_disk, overlay)
    handover = work / "handover.raw"
    with handover.open("wb") as file:
        file.truncate(HANDOVER_MIB << 20)
    qemu.make_variables(work, firmware)
    output = work / "output"
    place = chroot.PAYLOAD
    mounts = ("udevadm settle", f"mkdir -p {place}", f"mount -o ro LABEL=cidata {place}")
    environment = {
        **settings,
        "PAYLOAD": chroot.PAYLOAD,
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH),
        "HANDOVER": "/dev/disk/by-id/virtio-handover",
    }
    plan = Bake(
        vm_name="disk.qcow2",
        output=str(output),
        overlay=str(overlay),
        key=str(work / seed.KEY_NAME),
        qemu_args=qemu_args(work, output / "disk.qcow2", disc, handover, opt, logs, firmware),
        scripts=tuple(map(str, scripts_of(layer.name))),
        environment=tuple(f"{name}={value}" for name, value in environment.items()),
        # The disk is thrown away: no service need stop.
        shutdown_command="systemctl poweroff -ff",
        ssh_timeout="15m",
        mounts=(*mounts, "mount -o ro /dev/disk/by-id/virtio-opt /opt") if opt else mounts,
    )
    packer.bake(with_packer, plan, work, logs, step, keep_on_error=keep_on_error)
    (output / plan.vm_name).unlink(missing_ok=True)
    cut_after_data(handover)
    return handover


def qemu_args(
    work: Path,
    main: Path,
    disc: Path,
    handover: Path,
    opt: Path | None,
    logs: Path,
    firmware: str,
) -> tuple[tuple[str, ...], ...]:
    """QEMU's switches, all of them: naming one replaces every one that Packer would give."""
    blk = "virtio-blk-pci"
    # {{ .SSHHostPort }} is Packer's; naming the address keeps the build VM off the network.
    network = "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"
    words = [
        *accelerator.choose().qemu_args,
        *("-m", f"{packer.memory_mib()}M", "-smp", str(CPUS), "-display", "none"),
        *qemu.firmware_args(firmware, work),
        *("-drive", f"if=none,id=main,file={main},format=qcow2,cache=unsafe,discard=unmap"),
        *("-drive", f"if=none,id=payload,file={disc},format=raw,readonly=on"),
        *("-drive", f"if=none,id=handover,file={handover},format=raw,cache=unsafe"),
        *("-device", f"{blk},drive=main,bootindex=0", "-device", f"{blk},drive=payload"),
        *("-device", f"{blk},drive=handover,serial=handover"),
        *opt_args(opt),
        *("-netdev", network, "-device", "virtio-net-pci,netdev=user.0"),
        *("-object", "rng-random,id=rng,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=rng"),
        *("-serial", f"file:{logs / packer.CONSOLE_LOG}"),
    ]
    return tuple(zip(words[::2], words[1::2], strict=True))


def opt_args(opt: Path | None) -> tuple[str, ...]:
    """QEMU's switches for the file system that is /opt in the guest."""
    if not opt:
        return ()
    drive = f"if=none,id=opt,file={opt},format=raw,readonly=on"
    return ("-drive", drive, "-device", "virtio-blk-pci,drive=opt,serial=opt")


def cut_after_data(disc: Path) -> None:
    """Shorten a sparse disc to its last written block: what follows reads as endless zeros."""
    with disc.open("r+b") as file:
        end, size = 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: no data after this place (lseek(2))
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
        file.truncate(end)
