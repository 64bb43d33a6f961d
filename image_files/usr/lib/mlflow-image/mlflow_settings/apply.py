"""How `mlflow-configure --apply` restarts the server, and finds out whether it became ready."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

SYSTEMCTL = "/usr/bin/systemctl"
SERVER = "mlflow-tracking.service"
PAUSE = Path("/run/mlflow/pause")
# A database that is down is tried for 101 s; a start on a slow machine takes less.
START_TIMEOUT_S = 300


def restart(say: Callable[[str], None]) -> bool:
    """Restart the server, or start it; returns whether it became ready."""
    say("the settings have changed: restarting the server")
    return _systemctl("restart", SERVER)


def ensure_running(say: Callable[[str], None]) -> bool:
    """Start the server if it does not run; returns whether it runs or is starting."""
    state = subprocess.run(
        [SYSTEMCTL, "is-active", SERVER], stdout=subprocess.PIPE, encoding="utf-8", check=False
    ).stdout.strip()
    if state in ("active", "activating", "reloading"):
        say(f"nothing has changed: the server is {'running' if state == 'active' else 'starting'}")
        return True
    say(f"nothing has changed, but the server is {state or 'stopped'}: starting it")
    return _systemctl("restart", SERVER)


def reset_configure() -> None:
    """The unit may have failed at boot because of the previous settings."""
    subprocess.call([SYSTEMCTL, "reset-failed", "--quiet", "mlflow-configure.service"])


def _systemctl(*words: str) -> bool:
    # A start that was asked for begins at once, however many have failed before.
    PAUSE.unlink(missing_ok=True)
    subprocess.call([SYSTEMCTL, "reset-failed", "--quiet", SERVER])
    try:
        done = subprocess.run([SYSTEMCTL, *words], timeout=START_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
