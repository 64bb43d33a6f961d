"""Throwaway VMs: for verification, smoke tests and system tests."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mlflow_image import paths
from mlflow_image.errors import Failure
from mlflow_image.vm import machine
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
    """A throwaway VM; it and its directory are removed at the end, also after Ctrl-C or kill -9.

    until: what to wait for before the body runs: nothing, or ssh. logs: a directory that
    receives console.log and qemu.log at the end. Raises Failure with the guest's console lines
    when ssh does not come.
    """
    place = paths.cache() / "machines"
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    parent = Path(tempfile.mkdtemp(prefix=spec.hostname + "-", dir=place))
    vm = None
    try:
        vm = machine.create(parent / "vm", replace(spec, throwaway=True), user_data)
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


def _sweep(place: Path) -> None:
    """Remove the folders of throwaway VMs whose process was killed; QEMU died with it."""
    for parent in place.iterdir():
        try:
            left = not machine.load(parent / "vm").running
        except Failure:
            # Another process may be creating this one.
            left = time.time() - parent.stat().st_mtime > 3600
        if left:
            shutil.rmtree(parent, ignore_errors=True)
