"""Throwaway VMs: for verification, smoke tests and system tests."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mlflow_image import paths, watch
from mlflow_image.host import processes
from mlflow_image.vm import machine, paused
from mlflow_image.vm.boot import OnWait
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec


@contextmanager
def booted(
    spec: Spec,
    user_data: bytes,
    *,
    until: Literal["started", "ssh"] = "ssh",
    on_wait: OnWait = machine.silent,
    timeout_s: float = machine.BOOT_TIMEOUT_S,
    logs: Path | None = None,
) -> Iterator[Machine]:
    """A throwaway VM; it is removed with its directory at the end, also after Ctrl-C.

    After kill -9 the kernel ends its QEMU, and the next call removes its directory.
    until: what to wait for before the body runs: nothing, or ssh. logs: a directory to which
    console.log and qemu.log are copied at the end. Raises Failure with the guest's console
    lines when ssh does not answer in time. If the host's disk becomes full, QEMU pauses the VM,
    and programs and waits in the body end with DiskFull.
    """
    machines = paths.cache() / "machines"
    machines.mkdir(parents=True, exist_ok=True)
    _sweep(machines)
    parent = machines / f"{spec.hostname}-{secrets.token_hex(4)}"
    processes.make_owned_folder(parent)
    vm = None
    try:
        vm = machine.create(parent / "vm", replace(spec, throwaway=True), user_data)
        with watch.during(paused.Check(vm.directory)):
            vm.start()
            if until == "ssh":
                vm.wait_for_ssh(on_wait, timeout_s=timeout_s)
            yield vm
    finally:
        if vm is not None:
            vm.kill()
            if logs is not None:
                vm.copy_logs(logs)
        shutil.rmtree(parent, ignore_errors=True)


def _sweep(machines: Path) -> None:
    """Remove the folders of throwaway VMs whose process was killed; QEMU ended with it."""
    for parent in machines.glob("[!.]*"):
        if processes.was_abandoned(parent):
            shutil.rmtree(parent, ignore_errors=True)
