"""The machine's own way into a server with users: a secret that lasts as long as the server.

The launcher's probe and mlflow-admin use it in place of an administrator's password, which may have
been changed or forgotten. It is in a file of the unit's directory that the service and root can
read, and works only together with the name of an account.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import os
import secrets
from pathlib import Path

from mlflow_launch import failures

#: mlflow_settings/admin.py has the same name.
FILE = "own-access"
CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
#: Of a secret: 32 random bytes in base64.
LENGTH = 43
_SECTION = "mlflow"


def grant(name: str = "") -> None:
    """Make a new secret for an administrator's account; by default for that of the settings."""
    path = _file()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{name or administrator()}:{secrets.token_urlsafe(32)}")
    fresh.replace(path)


def revoke() -> None:
    """The server has no users (any more)."""
    with contextlib.suppress(OSError):
        _file().unlink(missing_ok=True)


def pair() -> tuple[str, str]:
    """The account's name and the secret; empty ones when the server has no users."""
    try:
        name, _, secret = _file().read_text(encoding="utf-8").rpartition(":")
    except OSError:
        return "", ""
    return name, secret


def header() -> dict[str, str]:
    """The header of a request that comes from this machine; none when the server has no users."""
    name, secret = pair()
    if not secret:
        return {}
    encoded = base64.b64encode(f"{name}:{secret}".encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


def administrator() -> str:
    """The administrator's name in MLflow's configuration file."""
    config = configparser.ConfigParser()
    config.read(os.environ.get(CONFIG, ""), encoding="utf-8")
    return config.get(_SECTION, "admin_username", fallback="admin")


def _file() -> Path:
    return failures.directory() / FILE
