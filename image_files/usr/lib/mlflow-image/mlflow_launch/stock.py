"""Runs MLflow's own `mlflow server` unchanged, as a subprocess.

For settings that need its helper processes (job execution: only the stock command knows how to
start the runner and its consumers), and for an MLflow that differs from what this launcher
expects. Slower to start, and its workers answer slower; readiness is reported as for our own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mlflow_launch import mlflow_names, notify, ready
from mlflow_launch.log import say, warn


def run(reason: str, words: Sequence[str] = (), *, differs: bool) -> int:
    """Serve until a signal stops it; returns the command's exit code, 0 after a signal.

    reason: why the stock command runs. words: more arguments for it. differs: the reason names what
    does not fit in this MLflow; it is logged as a warning and shown by `systemctl status`.
    """
    start = "starting the stock `mlflow server`"
    if differs:
        reason = f"this MLflow ({mlflow_names.version()}) differs: {reason}"
        warn(f"{reason}; {start}, which starts slower")
    else:
        say(f"{reason}: {start}")
    notify.status(f"{start}: {reason}")
    # uvicorn chooses uvloop by itself when it is installed (the 40 ms stall: workers.py).
    # The command itself runs isolated; the processes that it starts are given the guards.
    server = subprocess.Popen(
        [sys.executable, "-I", "-m", "mlflow", "server", *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).with_name("stock_site"))},
    )
    stopped = threading.Event()

    def forward(number: int, _frame: object) -> None:
        stopped.set()
        notify.stopping()
        server.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    threading.Thread(target=_report_ready, args=(reason,), daemon=True).start()
    code = server.wait()
    return 0 if stopped.is_set() else code or 1


def _report_ready(reason: str) -> None:
    ready.wait(os.environ["MLFLOW_HOST"], int(os.environ["MLFLOW_PORT"]))
    say("ready: a call through the database has succeeded")
    notify.ready(f"serving with the stock `mlflow server`: {reason}")
