"""The smoke test of an image: a throwaway VM is booted from it, tested, rebooted, tested again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlflow_image import paths, smoke, throwaway
from mlflow_image.images import Image
from mlflow_image.qemu import Spec
from mlflow_image.smoke_process import Patience
from mlflow_image.smoke_report import Report
from mlflow_settings import userdata

PORT = 8000
#: Configured by user-data alone, and reached by a name that only these settings allow.
SETTINGS = f"schema_version: 1\nserver:\n  port: {PORT}\n  allowed_hosts: [{smoke.HOST_NAME}]\n"
#: An emulated CPU answers its first calls slowly, and slower still on a busy host.
PATIENCE = Patience(request_s=180, row_s=600)
LOGS = paths.STATE / "logs" / "smoke-test"


def check_image(image: Image, on_step: Callable[[str], None]) -> Report:
    """Boot a VM from the image, run the smoke test with a reboot in it, throw the VM away.

    on_step gets one line for everything that is waited for. Raises Failure when the VM
    does not get ready; its console is then in LOGS.
    """
    spec = Spec(backing=image.disk, hostname="smoke", ssh_user=image.login, forwards={PORT: 0})
    waiting = Waiting(on_step)
    with throwaway.booted(
        spec, userdata.wrap(SETTINGS), until="ready", on_wait=waiting, logs=LOGS
    ) as vm:

        def reboot() -> None:
            vm.wait_for_ssh(waiting)
            vm.reboot(waiting)
            vm.wait_until_ready(waiting)

        report = smoke.check_server(
            f"http://{smoke.HOST_NAME}:{vm.forwarded[PORT]}",
            keep=True,
            reboot=reboot,
            resolve=smoke.LOOPBACK,
            on_step=on_step,
            patience=PATIENCE,
            anonymous=True,
        )
    # Kept on the server, and gone with it.
    return replace(report, left_behind=())


class Waiting:
    """Hands on what a boot waits for, each thing once; `machine` says it twice a second."""

    def __init__(self, on_step: Callable[[str], None]) -> None:
        self.on_step = on_step
        self.last = ""

    def __call__(self, what: str) -> None:
        if what != self.last:
            self.last = what
            self.on_step(f"the VM boots: {what}")
