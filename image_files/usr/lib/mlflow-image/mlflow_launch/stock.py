"""Runs MLflow's own `mlflow server` unchanged, for settings that need its helper processes.

Job execution starts a runner and consumers beside the server; only the stock command knows how.
Slower to start, and its workers answer slower; readiness is told as for our own workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from mlflow_launch import notify, ready
from mlflow_launch.log import say


def run() -> int:
    """Serve until told to stop; returns the command's exit code (0 when it was asked to stop)."""
    # uvloop is what uvicorn chooses by itself when it is installed (the 40 ms stall: workers.py).
    say("job execution is on: starting the stock `mlflow server`")
    server = subprocess.Popen([sys.executable, "-I", "-m", "mlflow", "server"])
    asked = threading.Event()

    def forward(number: int, _frame: object) -> None:
        asked.set()
        notify.stopping()
        server.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    threading.Thread(target=_tell_when_ready, daemon=True).start()
    code = server.wait()
    return 0 if asked.is_set() else code or 1


def _tell_when_ready() -> None:
    ready.wait(os.environ["MLFLOW_HOST"], int(os.environ["MLFLOW_PORT"]))
    say("ready: a call through the database has succeeded")
    notify.ready()
