"""Runs one phase of the smoke test in its own process: a job goes in, rows come out."""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.checks import client_process
from mlflow_image.checks.smoke.protocol import Job
from mlflow_image.checks.smoke.report import Row
from mlflow_image.errors import Failure

CLIENT = (sys.executable, "-m", "mlflow_image.checks.smoke.client")


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a response of the server, and for one row of the test."""

    request_s: int = 60
    row_s: float = 300.0


@dataclass
class PhaseResult:
    """What one phase reported so far. ended: whether the client reported its end."""

    rows: list[Row] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def ok(self) -> bool:
        return self.ended and bool(self.rows) and all(row.ok for row in self.rows)


def run_phase(
    job: Job,
    folder: Path,
    timeouts: Timeouts,
    on_step: Callable[[str], None],
    result: PhaseResult,
) -> None:
    """Start a client with a job and collect what it reports in `result`, also when this raises.

    folder: the client's working folder, empty. on_step gets one line for each action. Raises
    Failure when the client reports that there is no server that can be tested. A client that
    dies, or reports nothing for too long, becomes a row. The client has always ended when
    this returns or raises, after Ctrl-C as well.
    """
    step, started = "starting", time.monotonic()
    stderr = folder / "client.log"
    variables = client_process.environment(
        os.environ, folder, timeouts.request_s, job.resolve, anonymous=job.anonymous
    )
    with client_process.running(CLIENT, job.as_json(), variables, folder, stderr) as client:
        while not result.ended:
            try:
                line = client.next_line(timeouts.row_s)
            except queue.Empty:
                found = f"no response within {timeouts.row_s:g} s"
                result.rows.append(failed_row(job.phase, step, found, started))
                return
            if line is None:
                found = f"the client process died: {client_process.last_line(stderr)}"
                result.rows.append(failed_row(job.phase, step, found, started))
                return
            event = json.loads(line)
            if "step" in event:
                step, started = event["step"], time.monotonic()
                on_step(f"{job.phase}: {step}")
            elif "row" in event:
                result.rows.append(Row(**event["row"]))
            elif "left_behind" in event:
                result.left_behind.append(event["left_behind"])
            elif "fatal" in event:
                raise Failure(event["fatal"]["what"], remedy=event["fatal"]["remedy"])
            result.ended = "end" in event


def failed_row(phase: str, step: str, found: str, started: float) -> Row:
    return Row(phase, step, "a response", found, False, round(time.monotonic() - started, 3))
