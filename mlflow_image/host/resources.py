"""Free memory of this host, and the message when there is not enough."""

from __future__ import annotations

import psutil

#: A build VM gets a third of the free memory, between these limits.
BUILD_VM_MIB = (1536, 4096)


def free_memory_mib() -> int:
    """Memory in MiB that a new process can use without swapping."""
    return int(psutil.virtual_memory().available) >> 20


def build_vm_memory_mib() -> int:
    """Memory in MiB for a build VM."""
    least, most = BUILD_VM_MIB
    return max(least, min(most, free_memory_mib() // 3))


def memory_shortage(needed_mib: int, remedy: str) -> str:
    """One sentence when less memory is free than needed; empty otherwise."""
    free_mib = free_memory_mib()
    if free_mib >= needed_mib:
        return ""
    return f"not enough memory: {needed_mib} MiB are needed, {free_mib} MiB are free; {remedy}"
