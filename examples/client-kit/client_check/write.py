"""Whether this account may write: a run with a parameter and a metric, by mlflow itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client_check import environment
from client_check.network import LIMIT_S
from client_check.report import Fault

#: Seconds for importing mlflow and everything that is written.
_WORK_S = 90 + 6 * LIMIT_S


def experiment() -> str:
    """Where the run is written: the user's own experiment, else one that only this check uses."""
    pair = environment.account()
    user = re.sub(r"[^A-Za-z0-9._-]", "_", pair[0]) if pair else ""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "_".join(("client_check", user)).rstrip("_")


def work(folder: Path, *words: str) -> Mapping[str, Any]:
    """What mlflow said (work.py), in a process that ends in time whatever happens."""
    variables = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        # One try: what is wrong is said at once.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{max(10, LIMIT_S):.0f}",
        "AWS_MAX_ATTEMPTS": "1",
        "MLFLOW_HDFS_PATIENCE_S": "5",
    }
    line = [sys.executable, "-m", "client_check.work", *words]
    try:
        done = subprocess.run(
            line, env=variables, capture_output=True, text=True, timeout=_WORK_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(
            f"mlflow does not end within {_WORK_S:g} s", "try again; else look at the server"
        ) from error
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise Fault(
            f"mlflow does not run: {last}", "python -m pip install -r requirements.txt"
        ) from error
    return found


def check(said: Mapping[str, Any]) -> str:
    """The result for the run. said: by work()."""
    written = said["write"]
    error = str(written.get("error", ""))
    where = f"experiment {os.environ.get('MLFLOW_EXPERIMENT_ID') or experiment()}"
    if not error:
        return f"a run in {where}, deleted again"
    if re.search(r"PERMISSION_DENIED|403|[Pp]ermission denied", error):
        user = (environment.account() or ("NAME",))[0]
        raise Fault(
            f"{user} may not write to {where} (status 403)",
            "set MLFLOW_EXPERIMENT_NAME to an experiment of your own, or ask an administrator: "
            f"`sudo mlflow-admin users grant {user} experiment ID EDIT`",
        )
    if "is deleted" in error or "deleted experiment" in error:
        raise Fault(
            f"{where} is deleted", "set MLFLOW_EXPERIMENT_NAME to another, or restore this one"
        )
    if "RESOURCE_DOES_NOT_EXIST" in error:
        raise Fault(f"there is no {where}", "correct MLFLOW_EXPERIMENT_ID")
    raise Fault(
        f"the server does not take a run: {brief(error)}",
        "look at the server: `sudo journalctl -u mlflow-tracking`",
    )


def brief(error: str) -> str:
    """The first error of a chain in one line."""
    return " ".join(error.partition("\n")[0].split())[:220]
