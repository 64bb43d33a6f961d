"""The smoke test's own process: a real MLflow client that does one phase and tells it line by line.

    python -m mlflow_image.checks.smoke.client < order.json

Started anew for every phase, so that nothing is read from a cache, and apart from the
process that asked, so that a patched resolver and MLflow's environment stay in here.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_image.checks.smoke.contents import Contents
from mlflow_image.checks.smoke.protocol import PhaseOverError, Telling, brief


def main() -> None:
    order = json.load(sys.stdin)
    pipe = private_stdout()
    telling = Telling(order["phase"], pipe)
    patch_resolver(order["resolve"])
    try:
        perform(order, telling)
    except PhaseOverError:
        pass
    except Exception as error:
        traceback.print_exc()
        telling.row("the client", "no error of its own", brief(error), False, time.monotonic())
    telling.line(end=True)
    # No atexit: MLflow would end an open run there, against a server that may hang.
    os._exit(0)


def perform(order: Mapping[str, Any], telling: Telling) -> None:
    """Import MLflow (2-3 s) and do the phase."""
    telling.line(step="starting an MLflow client")
    from mlflow_image.checks.smoke import probe, steps

    contents = Contents(order["token"], order["started_ms"])
    session = steps.Session(order["url"], contents, Path.cwd(), telling)
    if order["task"] == "write":
        probe.probe(order["url"], telling)
    steps.TASKS[order["task"]](session)


def patch_resolver(resolve: Mapping[str, str]) -> None:
    """Let this process, and no other, resolve the given names to the given addresses."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real(resolve.get(name, host), *args, **kwargs)

    if resolve:
        socket.getaddrinfo = getaddrinfo


def private_stdout() -> Callable[[str], object]:
    """Keep stdout for our lines; whatever else prints there goes to stderr."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(line: str) -> None:
        ours.write(line)
        ours.flush()

    return write


if __name__ == "__main__":
    main()
