"""VMs that QEMU has paused because this host could not write their disk (werror=stop)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from mlflow_image import space
from mlflow_image.errors import Failure
from mlflow_image.vm import monitor

#: QEMU's option for every disk that a guest writes. The guest sees no error: its databases would
#: not survive one. It waits until `resume`, or until QEMU is ended.
PAUSE_ON_ERROR = "werror=stop,rerror=report"
#: A VM is not started with less free. A first boot writes about 100 MiB into an overlay.
LEAST_DISK_MIB = 1024
DISK_REMEDY = "run `invoke clean`, or remove a VM with `invoke down`"
#: How often a VM is asked whether it is paused.
CHECK_S = 2.0
#: What QEMU calls a VM that it paused for this reason (QMP reference, RunState).
IO_ERROR = "io-error"


class Paused(Failure):
    """QEMU paused a VM because of a write error other than a full disk; such as a used-up quota."""


#: What `reason` returns. Such an error comes from this host: the VM has nothing to do with it.
HOST_ERRORS = (space.DiskFull, Paused)


def reason(directory: Path) -> Failure | None:
    """Why QEMU paused the VM in this directory: DiskFull, or Paused for another write error.

    None if it runs, has ended, or does not answer.
    """
    try:
        state = cast(dict[str, object], monitor.execute(directory, "query-status"))
        if state["status"] != IO_ERROR:
            return None
        disks = cast(list[dict[str, str]], monitor.execute(directory, "query-block"))
    except Failure:
        return None
    if any(disk.get("io-status") == "nospace" for disk in disks):
        free = space.free_mib(directory)
        return space.DiskFull(
            f"QEMU paused the VM, because it could not write to this host's full disk: now {free} "
            f"MiB are free in {directory}, at least {LEAST_DISK_MIB} MiB are needed",
            remedy=DISK_REMEDY,
        )
    return Paused(
        f"QEMU paused the VM, because this host could not write its disk in {directory}",
        remedy="look for disk errors and quotas on the host (dmesg, quota)",
    )


def resume(directory: Path) -> None:
    """Continue a paused VM; failed writes are repeated. Raises Failure if QEMU does not answer."""
    monitor.execute(directory, "cont")


class Check:
    """For `watch.during`: raises the `reason` of a VM's pause, asking every CHECK_S seconds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next or not (self._directory / monitor.SOCKET_NAME).exists():
            return
        if why := reason(self._directory):
            raise why
        self._next = time.monotonic() + CHECK_S
