"""Writes single lines to the journal. They may contain names of variables, never their values."""

from __future__ import annotations

import os
import sys
import time

_STARTED_S = time.monotonic()
# sd-daemon(3): the priority of a line that goes to the journal.
_WARNING = "<4>"


def say(line: str) -> None:
    """Write one line to stderr, with the seconds since this process began."""
    _write("", line)


def warn(line: str) -> None:
    """Write one line that `journalctl --priority warning` shows as well."""
    _write(_WARNING if "JOURNAL_STREAM" in os.environ else "", f"warning: {line}")


def _write(priority: str, line: str) -> None:
    seconds = time.monotonic() - _STARTED_S
    sys.stderr.write(f"{priority}mlflow-launch [{seconds:.1f} s] {line}\n")
    sys.stderr.flush()
