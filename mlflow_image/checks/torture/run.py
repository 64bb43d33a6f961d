"""The order of a torture test: clients log for some minutes, then everything is read back."""

from __future__ import annotations

import json
import os
import queue
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_image import progress
from mlflow_image.checks import client_process
from mlflow_image.checks.client_process import Client
from mlflow_image.checks.torture import record
from mlflow_image.checks.torture.report import Report
from mlflow_image.errors import Failure

CLIENT = (sys.executable, "-m", "mlflow_image.checks.torture.client")
#: A call that hangs must not keep its thread for the rest of the test.
REQUEST_S = 60
#: To finish calls that are on their way when the time is over or Ctrl-C comes.
GRACE_S = 180.0


def torture(
    url: str, seconds: float, threads: int, path: Path, on_step: Callable[[str], None]
) -> Report:
    """Log to a server with many clients at once, then read everything back.

    path: where each call is written down; calls that it has already are read back, too. After
    Ctrl-C, what was acknowledged until then is read back. Raises Failure when no server answers at
    the start, or at the end.
    """
    begun_s = time.monotonic()
    path.touch(mode=0o600)
    job = {"task": "write", "threads": threads, "seconds": seconds, "token": secrets.token_hex(4)}
    said = _client({**job, "url": url, "record": str(path.absolute())}, on_step, "--check reads it")
    return _check(url, path, on_step, begun_s, said.get("refusals", {}))


def check(url: str, path: Path, on_step: Callable[[str], None]) -> Report:
    """Only read back what an earlier test has written down."""
    return _check(url, path, on_step, time.monotonic(), {})


def _check(
    url: str,
    path: Path,
    on_step: Callable[[str], None],
    begun_s: float,
    refusals: Mapping[str, int],
) -> Report:
    outcomes = record.read(path)
    job = {"task": "verify", "url": url, "record": str(path.absolute())}
    said = _client(job, on_step, f"the calls are in {path}; --check reads them back")
    seconds = round(time.monotonic() - begun_s, 1)
    return Report(url, outcomes, said.get("findings", []), seconds, refusals)


def _client(
    job: Mapping[str, object], on_step: Callable[[str], None], remedy: str
) -> dict[str, Any]:
    """Run the client's process with a job; returns its last event.

    Ctrl-C ends the writing, and is raised again for any other job.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-torture-") as scratch:
        folder = Path(scratch)
        log = folder / "client.log"
        variables = client_process.environment(os.environ, folder, REQUEST_S)
        text = json.dumps(job)
        with client_process.running(CLIENT, text, variables, folder, log) as client:
            try:
                said = _last_event(client, on_step, None)
            except KeyboardInterrupt:
                if job["task"] != "write":
                    raise
                progress.warn("ending; what was acknowledged is read back (Ctrl-C: not that)")
                client.process.terminate()
                said = _last_event(client, on_step, time.monotonic() + GRACE_S)
        if not {"refusals", "findings"} & set(said):
            reason = client_process.last_line(log)
            raise Failure(f"the client ended early: {reason}", remedy=remedy)
        return said


def _last_event(
    client: Client, on_step: Callable[[str], None], deadline_s: float | None
) -> dict[str, Any]:
    """Show the client's steps until its end, or the deadline; returns its last event."""
    said: dict[str, Any] = {}
    while deadline_s is None or time.monotonic() < deadline_s:
        try:
            line = client.next_line(1)
        except queue.Empty:
            continue
        if line is None:
            break
        said = json.loads(line)
        if "step" in said:
            on_step(said["step"])
        elif "fatal" in said:
            raise Failure(said["fatal"]["what"], remedy=said["fatal"]["remedy"])
        elif "row" in said and not said["row"]["ok"]:
            raise Failure(f"{said['row']['what']}: {said['row']['found']}")
    return said
