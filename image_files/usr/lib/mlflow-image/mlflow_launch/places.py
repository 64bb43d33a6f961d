"""Where the launcher keeps what outlives its process."""

from __future__ import annotations

import os
from pathlib import Path


def unit_directory() -> Path:
    """The unit's own directory in /run, which only the service and root can read."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run/mlflow-tracking"))
