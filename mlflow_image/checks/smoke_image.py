"""The smoke test of an image: boot a throwaway VM from it, test it, reboot it, test it again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlflow_image import files
from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.process import Timeouts
from mlflow_image.checks.smoke.report import Report
from mlflow_image.errors import Failure
from mlflow_image.images.find import Image
from mlflow_image.server import ready
from mlflow_image.server.user_data import DEFAULT_PORT
from mlflow_image.vm import throwaway
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec
from mlflow_settings import userdata

PORT = DEFAULT_PORT
#: The VM is configured by user-data only, and addressed by a name that only these settings allow.
SETTINGS = f"schema_version: 1\nserver:\n  port: {PORT}\n  allowed_hosts: [{check.HOST_NAME}]\n"
#: An emulated CPU answers the first requests slowly, even more so on a busy host.
TIMEOUTS = Timeouts(request_s=180, row_s=600)
JOURNAL = "sudo journalctl --boot --no-pager -u 'mlflow-*'"


def check_image(image: Image, logs: Path, on_step: Callable[[str], None]) -> Report:
    """Boot a VM from the image, run the smoke test with a reboot, delete the VM.

    logs: gets the VM's console log, and its journal when something differs. on_step gets one
    line for each action and each stage of a boot. Raises Failure when the VM does not get ready.
    """
    spec = Spec(backing=image.disk, hostname="smoke", ssh_user=image.login, forwards={PORT: 0})
    waiting = Waiting(on_step)
    with throwaway.booted(spec, userdata.wrap(SETTINGS), until="started", logs=logs) as vm:
        ready.wait(vm, waiting)

        def reboot() -> None:
            vm.wait_for_ssh(waiting)
            vm.reboot(waiting)
            ready.wait(vm, waiting)

        options = check.Options(
            keep=True,
            reboot=reboot,
            resolve=check.LOOPBACK,
            timeouts=TIMEOUTS,
            anonymous=True,
        )
        url = f"http://{check.HOST_NAME}:{vm.forwarded[PORT]}"
        report = check.check_server(url, options, on_step)
        if not report.ok:
            keep_journal(vm, logs)
    # What was kept on the server is deleted with the VM.
    return replace(report, left_behind=())


def keep_journal(vm: Machine, logs: Path) -> None:
    """Save the journal of MLflow's units, if the VM still answers."""
    with contextlib.suppress(Failure):
        logs.mkdir(parents=True, exist_ok=True)
        files.write(logs / "journal.log", vm.run(JOURNAL, check=False).stdout)


class Waiting:
    """Reports what a boot waits for, each stage once; `machine` reports it twice a second."""

    def __init__(self, on_step: Callable[[str], None]) -> None:
        self.on_step = on_step
        self.last = ""

    def __call__(self, what: str) -> None:
        if what != self.last:
            self.last = what
            self.on_step(f"booting the VM: {what}")
