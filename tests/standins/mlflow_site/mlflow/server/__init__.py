"""The stand-in's server package: starts uvicorn the way that MLflow does."""

import os
import signal
import subprocess
import sys


def _exec_cmd(cmd, *, extra_env=None, capture_output=True, synchronous=True):
    return subprocess.Popen(cmd, env={**os.environ, **(extra_env or {})})


def command_line():
    return [
        *(sys.executable, "-m", "uvicorn", "--log-config", "none.yaml"),
        *("--host", os.environ["MLFLOW_HOST"], "--port", os.environ["MLFLOW_PORT"]),
        *("--workers", "1", "mlflow.server.fastapi_app:app"),
    ]


def start(argv):
    return _exec_cmd(argv, extra_env={"_STANDS_IN": "1"}, capture_output=False, synchronous=False)


def run_server():
    process = start(command_line())
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    process.wait()
