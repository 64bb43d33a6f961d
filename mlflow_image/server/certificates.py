"""The certificate of a VM that answers by HTTPS: who has signed it, and how long it lasts."""

from __future__ import annotations

import ssl

from mlflow_image.server.vms import Vm
from mlflow_image.vm.ssh import Unreachable
from mlflow_settings import proxy, renew

#: Prints the certificate of the authority that the machine has made.
ASK_CA = f"sudo -n cat {proxy.CA}"
#: Where clients keep it, unless the user names another file.
CA_FILE = "mlflow-ca.pem"
_LIMIT_S = 5.0


def authority(vm: Vm) -> str:
    """The authority whose certificate clients of this VM need; "" when it cannot be asked."""
    try:
        done = vm.machine.run(ASK_CA, check=False, timeout_s=120)
    except Unreachable:
        return ""
    return done.stdout if done.returncode == 0 else ""


def warning(vm: Vm) -> str:
    """What to say of a certificate that ends soon; "" when none does or none is shown."""
    if vm.record.scheme != "https" or not vm.port or not vm.machine.running:
        return ""
    try:
        shown = ssl.get_server_certificate(("127.0.0.1", vm.port), timeout=_LIMIT_S)
    except OSError:
        return ""
    return renew.ends_soon(shown)
