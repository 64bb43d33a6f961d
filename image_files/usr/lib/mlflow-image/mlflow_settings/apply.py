"""How `mlflow-configure --apply` restarts the server, and finds out whether it became ready."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mlflow_settings import signals
from mlflow_settings.wording import visible

SYSTEMCTL = "/usr/bin/systemctl"
SERVER = "mlflow-tracking.service"
PROXY = "mlflow-proxy.service"
CERTIFICATE = "mlflow-certificate.service"
PAUSE = Path("/run/mlflow/pause")
METADATA_ADDRESS = "169.254.169.254"
#: Where systemd keeps what set-property has set.
METADATA_RULE = Path(f"/run/systemd/system.control/{SERVER}.d/50-IPAddressAllow.conf")
#: What the server says of a store that it cannot use (mlflow_launch/stores/watch.py).
STORE = Path("/run/mlflow-tracking/store")
# A start on a slow machine takes less.
START_TIMEOUT_S = 300
# New settings whose store cannot be used are taken back after this time.
STORE_TIMEOUT_S = 60
_LOOK_EVERY_S = 0.5


def restart(say: Callable[[str], None]) -> bool:
    """Restart the server, or start it; returns whether it became ready.

    Repeats what the server says of a store that it cannot use, and does not wait long for one.
    """
    say("the settings have changed: restarting the server")
    return _restart(say)


def state_of_server() -> str:
    """What systemd says: active, activating, failed and others."""
    return subprocess.run(
        [SYSTEMCTL, "is-active", SERVER], stdout=subprocess.PIPE, encoding="utf-8", check=False
    ).stdout.strip()


def ensure_running(say: Callable[[str], None]) -> bool:
    """Start the server if it does not run; returns whether it runs or is starting."""
    state = state_of_server()
    if state in ("active", "activating", "reloading"):
        now = "running" if state == "active" else "starting"
        say(f"no restart is needed: the server is {now}")
        return True
    say(f"the server is {state or 'stopped'}: starting it")
    return _restart(say)


def allow_metadata_service(allowed: bool) -> None:
    """Let the server ask for the machine's role (AWS), or not, which is the unit's own rule.

    Allowed addresses win over IPAddressDeny= of the unit. Lasts until the next boot.
    """
    if allowed or METADATA_RULE.exists():
        rule = f"IPAddressAllow={METADATA_ADDRESS if allowed else ''}"
        subprocess.call([SYSTEMCTL, "set-property", "--runtime", SERVER, rule])


def proxy(used: bool) -> None:
    """Let nginx take over changed settings without dropping a request, or end it."""
    verb = "reload-or-restart" if used else "stop"
    # Without waiting: its port may still belong to the server, which is restarted next.
    subprocess.call([SYSTEMCTL, "--no-block", verb, PROXY])


def renew_certificate() -> None:
    """Ask an authority for a certificate now, where the settings name one; does not wait."""
    subprocess.call([SYSTEMCTL, "--no-block", "start", CERTIFICATE])


def reset_configure() -> None:
    """The unit may have failed at boot because of the previous settings."""
    subprocess.call([SYSTEMCTL, "reset-failed", "--quiet", "mlflow-configure.service"])


def _restart(say: Callable[[str], None]) -> bool:
    # A start that was asked for begins at once, however many have failed before.
    PAUSE.unlink(missing_ok=True)
    # What the previous start said; the next one imports for a while before it says anything.
    STORE.unlink(missing_ok=True)
    subprocess.call([SYSTEMCTL, "reset-failed", "--quiet", SERVER])
    began_s = time.monotonic()
    said, trouble_since_s = "", 0.0
    with subprocess.Popen([SYSTEMCTL, "restart", SERVER]) as waiting:
        while (code := waiting.poll()) is None:
            time.sleep(_LOOK_EVERY_S)
            now_s, trouble = time.monotonic(), _trouble_of_a_store()
            if not trouble:  # a new start has begun, or the store can be used
                said, trouble_since_s = "", 0.0
            elif trouble != said:
                say(trouble)
                said, trouble_since_s = trouble, trouble_since_s or now_s
            waited_s = now_s - trouble_since_s if trouble and said else 0.0
            if waited_s > STORE_TIMEOUT_S or now_s - began_s > START_TIMEOUT_S:
                waiting.terminate()  # only the wait: the server goes on with its start
                return False
    return code == 0


def _trouble_of_a_store() -> str:
    """What the server says of a store; the file is the service's, and systemd cleans its folder."""
    try:
        descriptor = os.open(STORE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            text = file.read(500).strip()
    except OSError:
        return ""
    return "" if text == signals.STORES_REACHED else visible(text)
