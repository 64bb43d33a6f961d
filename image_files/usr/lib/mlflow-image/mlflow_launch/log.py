"""One line to the journal. Names of variables may be said, their values never."""

from __future__ import annotations

import sys
import time

_STARTED_S = time.monotonic()


def say(line: str) -> None:
    """Write one line to stderr, with the seconds since this process began."""
    sys.stderr.write(f"mlflow-launch [{time.monotonic() - _STARTED_S:.1f} s] {line}\n")
    sys.stderr.flush()
