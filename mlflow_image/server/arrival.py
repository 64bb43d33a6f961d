"""Whether the settings that were checked on this host are those that arrived in the VM."""

from __future__ import annotations

import hashlib

from mlflow_image import progress
from mlflow_image.errors import Failure
from mlflow_image.server.vms import Vm, command_for
from mlflow_image.vm.ssh import Unreachable
from mlflow_settings import signals
from mlflow_settings.userdata import SETTINGS_PATH

#: Prints the hash over ssh only: on the console, anyone could guess a short secret from it.
ASK = f"sudo -n sha256sum {SETTINGS_PATH}"


def require_same(vm: Vm, expected: str) -> None:
    """Raise Failure when the VM has other settings than the expected text, or none.

    Prints a warning when the VM cannot be asked.
    """
    try:
        done = vm.machine.run(ASK, check=False, timeout_s=120)
    except Unreachable:
        progress.warn(f"VM {vm.name} does not let us log in: its settings were not compared")
        return
    arrived = done.stdout.split(" ")[0]
    if arrived == hashlib.sha256(expected.encode()).hexdigest():
        return
    if done.returncode != 0 and "No such file" not in done.stderr:
        progress.warn(f"VM {vm.name} does not let us read its settings: they were not compared")
        return
    what = "other settings than" if arrived else "no settings, instead of"
    lines = signals.report_lines(vm.machine.console_text)
    raise Failure(
        f"VM {vm.name} has {what} those that were checked: {SETTINGS_PATH} in the VM",
        evidence="\n".join(lines),
        remedy=f"see what else writes the file: {command_for('ssh', vm.name)}, "
        f"/var/log/cloud-init.log; or remove the VM: {command_for('down', vm.name)}",
    )
