"""What the machine makes by itself where the settings leave it open."""

from __future__ import annotations

import secrets
from pathlib import Path

from mlflow_settings import files
from mlflow_settings.blocks.auth import MADE_PASSWORD
from mlflow_settings.memory import STATE

_RANDOM_BYTES = 18


def ensure_password(root: Path) -> None:
    """Make the administrator's first password, once; only root can read it. Raises OSError."""
    path = root / MADE_PASSWORD.lstrip("/")
    if not path.exists():
        files.ensure_directory(root / STATE, 0o700)
        files.write_if_changed(path, f"{password()}\n", 0o600, durable=True)


def password() -> str:
    """A password that nobody can guess."""
    return secrets.token_urlsafe(_RANDOM_BYTES)
