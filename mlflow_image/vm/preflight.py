"""Checks before a VM is created or started: memory, disk, processors, ports, image, firmware."""

from __future__ import annotations

from pathlib import Path

from mlflow_image import space
from mlflow_image.errors import Refusal, Refusals
from mlflow_image.host import resources
from mlflow_image.vm import firmware, paused, ports, qemu

#: QEMU's own memory, in addition to the guest's: 190 MiB under TCG during a boot (measured).
QEMU_OVERHEAD_MIB = 256
LEAST_MEMORY_MIB = 512
MEMORY_REMEDY = f"use a smaller --memory (QEMU itself takes {QEMU_OVERHEAD_MIB} MiB), or stop a VM"


def check(spec: qemu.Spec, folder: Path) -> None:
    """Raise Refusals with everything that prevents this VM from running on this host.

    folder: where the overlay will be; it need not exist yet.
    """
    faults = [
        *_resources(spec.memory_mib, folder),
        *_processors(spec.cpus),
        *_image(spec),
        *_firmware(spec.firmware),
        *_ports(spec),
    ]
    if faults:
        raise Refusals("this VM cannot be started", faults)


def check_resources(spec: qemu.Spec, folder: Path) -> None:
    """Raise Refusals when the host has too little free memory or disk for this VM."""
    if faults := _resources(spec.memory_mib, folder):
        raise Refusals("this VM cannot be started", faults)


def check_disk_space(folder: Path) -> None:
    """Raise Refusals when the host has too little free disk for a VM in this folder."""
    if fault := _disk_space(folder):
        raise Refusals("this VM cannot continue", [fault])


def _disk_space(folder: Path) -> str:
    return space.shortage(paused.LEAST_DISK_MIB, folder, paused.DISK_REMEDY)


def _resources(memory_mib: int, folder: Path) -> list[str]:
    if memory_mib < LEAST_MEMORY_MIB:
        return [f"{memory_mib} MiB of memory is too little; use at least {LEAST_MEMORY_MIB} MiB"]
    faults = [
        resources.memory_shortage(memory_mib + QEMU_OVERHEAD_MIB, MEMORY_REMEDY),
        _disk_space(folder),
    ]
    return [fault for fault in faults if fault]


def _processors(count: int) -> list[str]:
    return [] if 1 <= count <= 64 else [f"{count} processors: use 1 to 64"]


def _image(spec: qemu.Spec) -> list[str]:
    try:
        qemu.check_disk(spec)
    except Refusal as refusal:
        return [refusal.what]
    return []


def _firmware(name: str) -> list[str]:
    try:
        if name != "bios":
            firmware.ovmf_files(name)
    except Refusal as refusal:
        return [f"{refusal.what} ({refusal.remedy})"]
    return []


def _ports(spec: qemu.Spec) -> list[str]:
    wanted = [port for port in spec.forwards.values() if port]
    faults = [fault for port in wanted if (fault := ports.why_unusable(port))]
    faults += [
        f"the guest's port {port} is out of range (1-65535)"
        for port in spec.forwards
        if not 1 <= port <= 65535
    ]
    return faults
