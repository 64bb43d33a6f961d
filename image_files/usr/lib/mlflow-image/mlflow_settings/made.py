"""What the machine makes by itself where the settings leave it open."""

from __future__ import annotations

from pathlib import Path

from mlflow_settings import files
from mlflow_settings.blocks.auth import MADE_PASSWORD, new_password
from mlflow_settings.memory import STATE


def ensure_password(root: Path) -> None:
    """Make the administrator's first password, once; only root can read it. Raises OSError."""
    path = root / MADE_PASSWORD.lstrip("/")
    if not path.exists():
        files.ensure_directory(root / STATE, 0o700)
        files.write_if_changed(path, f"{new_password()}\n", 0o600, durable=True)
