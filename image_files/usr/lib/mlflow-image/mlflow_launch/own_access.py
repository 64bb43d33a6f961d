"""The machine's own way into a server with users: an account, and a secret for each start.

The launcher's probe and mlflow-admin use it in place of an administrator's password, which may have
been changed or forgotten. The account's password is random and stored nowhere; only the secret lets
anyone in, and it is in a file of the unit's directory that the service and root can read.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path

from mlflow_launch import places

#: An administrator; mlflow_settings/blocks/auth.py keeps the name free.
NAME = "mlflow-image"
#: mlflow_settings/blocks/auth.py has the same path.
FILE = "own-access"


def grant() -> None:
    """Make the secret for this start."""
    path = _file()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(32))
    fresh.replace(path)


def revoke() -> None:
    """The server has no users (any more)."""
    with contextlib.suppress(OSError):
        _file().unlink(missing_ok=True)


def secret() -> str:
    """The secret; "" when the server has no users."""
    try:
        return _file().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def header() -> dict[str, str]:
    """The header of a request that comes from this machine; none when the server has no users."""
    if not (found := secret()):
        return {}
    encoded = base64.b64encode(f"{NAME}:{found}".encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


def _file() -> Path:
    return places.unit_directory() / FILE
