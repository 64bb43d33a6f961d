"""Waits for mlflow-configure's result: the server's environment, or a refusal with reasons."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RUN = Path("/run/mlflow")
STATE = Path("/var/lib/mlflow")
FORMAT = 1
# From sysexits.h; the unit does not restart after it.
EX_CONFIG = 78
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Launch:
    """How to start. environment: variables for the server; some hold secrets.

    stock_command: run MLflow's own command with its helper processes (job execution).
    state_device: the device number of the file system at STATE; None: not compared.
    """

    environment: Mapping[str, str] = field(repr=False)
    stock_command: bool
    state_device: int | None = None

    def state_has_moved(self) -> bool:
        """Whether another disk is at STATE than the one that mlflow-configure saw.

        The unit's view of the file systems may be older than a mount: what it wrote there would be
        hidden below the mount, and lost to the next start.
        """
        if self.state_device is None:
            return False
        try:
            return STATE.stat().st_dev != self.state_device
        except OSError:
            return True


@dataclass(frozen=True)
class Refused:
    """Nothing may be served. reasons: one line each."""

    reasons: tuple[str, ...]


def wait(run: Path) -> Launch | Refused:
    """Block until mlflow-configure has decided. systemd limits the wait (TimeoutStartSec)."""
    while True:
        # `mlflow-configure --apply` may remove either file at any time: read without a check.
        with contextlib.suppress(FileNotFoundError):
            return Refused(tuple((run / "refused").read_text(encoding="utf-8").splitlines()))
        with contextlib.suppress(FileNotFoundError):
            return read(run / "server.json")
        time.sleep(_LOOK_EVERY_S)


def read(path: Path) -> Launch | Refused:
    """The decision in a file; a file with any other content is a refusal."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        environment, stock_command = data["environment"], data["stock_command"]
        state_device = data.get("state_device")
    except (ValueError, KeyError, TypeError):
        return Refused((f"{path} is damaged: run mlflow-configure --apply",))
    strings = isinstance(environment, dict) and all(
        isinstance(v, str) for v in environment.values()
    )
    if data.get("format") != FORMAT or not strings or not isinstance(stock_command, bool):
        return Refused((f"{path} has an unknown format: run mlflow-configure --apply",))
    return Launch(environment, stock_command, state_device)
