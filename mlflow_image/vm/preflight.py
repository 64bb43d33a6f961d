"""What is refused before a VM is made: too little memory or disk, a busy port, no such image."""

from __future__ import annotations

from pathlib import Path

import psutil

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.vm import ports, qemu

#: QEMU itself beside the guest's memory: 190 MiB were seen under TCG while a guest booted.
QEMU_OVERHEAD_MIB = 256
LEAST_MEMORY_MIB = 512
#: What a first boot writes into an overlay is some 100 MiB; below this a VM soon stops.
LEAST_DISK_MIB = 1024


def check(spec: qemu.Spec, place: Path) -> None:
    """Refuse a VM that cannot work here, all faults at once, each with its numbers.

    place: the directory (or its nearest existing parent) that is to hold the overlay.
    Raises Refusals.
    """
    faults = [
        *_memory(spec.memory_mib),
        *_processors(spec.cpus),
        *_disk_space(place),
        *_image(spec),
        *_firmware(spec.firmware),
        *_ports(spec),
    ]
    if faults:
        raise Refusals("this VM cannot be started", faults)


def check_room(spec: qemu.Spec, place: Path) -> None:
    """Refuse to power on what would not fit into the host's memory and disk just now."""
    if faults := [*_memory(spec.memory_mib), *_disk_space(place)]:
        raise Refusals("this VM cannot be started", faults)


def _memory(wanted_mib: int) -> list[str]:
    if wanted_mib < LEAST_MEMORY_MIB:
        return [f"{wanted_mib} MiB of memory are too few; the least is {LEAST_MEMORY_MIB} MiB"]
    free_mib = psutil.virtual_memory().available // 2**20
    needed_mib = wanted_mib + QEMU_OVERHEAD_MIB
    if free_mib >= needed_mib:
        return []
    return [
        f"not enough memory: {wanted_mib} MiB for the VM and {QEMU_OVERHEAD_MIB} MiB for QEMU "
        f"are needed, {free_mib} MiB are free; use a smaller --memory or stop another VM"
    ]


def _processors(count: int) -> list[str]:
    return [] if 1 <= count <= 64 else [f"{count} processors: between 1 and 64 are possible"]


def _disk_space(place: Path) -> list[str]:
    while not place.exists():
        place = place.parent
    free_mib = psutil.disk_usage(str(place)).free // 2**20
    if free_mib >= LEAST_DISK_MIB:
        return []
    return [
        f"not enough disk: {LEAST_DISK_MIB} MiB are needed below {place}, {free_mib} MiB "
        "are free; `invoke clean`, or `invoke down` for a VM that is no longer needed"
    ]


def _image(spec: qemu.Spec) -> list[str]:
    try:
        qemu.check_disk(spec)
    except Refusal as refusal:
        return [refusal.what]
    return []


def _firmware(name: str) -> list[str]:
    try:
        if name != "bios":
            qemu.ovmf_files(name)
    except Refusal as refusal:
        return [f"{refusal.what} ({refusal.remedy})"]
    return []


def _ports(spec: qemu.Spec) -> list[str]:
    wished = [port for port in spec.forwards.values() if port]
    faults = [fault for port in wished if (fault := ports.why_unusable(port))]
    faults += [
        f"the guest's port {port} is out of range (1-65535)"
        for port in spec.forwards
        if not 1 <= port <= 65535
    ]
    return faults
