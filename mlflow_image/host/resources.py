"""Free memory and disk of this host, and the messages when there is not enough."""

from __future__ import annotations

from pathlib import Path

import psutil

#: A build VM gets a third of the free memory, between these limits.
BUILD_VM_MIB = (1536, 4096)


def free_memory_mib() -> int:
    """Memory in MiB that a new process can use without swapping."""
    return int(psutil.virtual_memory().available) >> 20


def free_disk_mib(folder: Path) -> int:
    """Free space in MiB on the file system of `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return int(psutil.disk_usage(str(folder)).free) >> 20


def memory_mib() -> int:
    """Memory in MiB for a build VM."""
    least, most = BUILD_VM_MIB
    return max(least, min(most, free_memory_mib() // 3))


def shortages(
    *, memory_mib: int, disk_mib: int, folder: Path, memory_remedy: str, disk_remedy: str
) -> list[str]:
    """One message for each resource of which less is free than needed; empty if none.

    folder: where the disk space is needed.
    """
    found = []
    free_mib = free_memory_mib()
    if free_mib < memory_mib:
        found.append(
            f"not enough memory: {memory_mib} MiB are needed, {free_mib} MiB are free; "
            f"{memory_remedy}"
        )
    free_mib = free_disk_mib(folder)
    if free_mib < disk_mib:
        found.append(
            f"not enough disk: {disk_mib} MiB are needed in {folder}, {free_mib} MiB are free; "
            f"{disk_remedy}"
        )
    return found
