"""Runs one phase of the smoke test in its own process: a job goes in, rows come out."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mlflow_image import paths, watch
from mlflow_image.checks.smoke.protocol import Job
from mlflow_image.checks.smoke.report import Row
from mlflow_image.errors import Failure

CLIENT = (sys.executable, "-m", "mlflow_image.checks.smoke.client")
#: MLflow's variables for credentials and connections. Only these reach the client:
#: MLFLOW_RUN_ID, MLFLOW_TRACKING_URI and others would change what is tested.
CONNECTION_VARIABLES = ("MLFLOW_TRACKING_", "MLFLOW_HTTP_", "MLFLOW_S3_", "MLFLOW_WORKSPACE")
EXCLUDED_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_DIR")
#: Their paths may be relative to the user's working folder; the client has another one.
FILE_VARIABLES = (
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
)


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
    with client(job, folder, timeouts, stderr) as lines:
        while not result.ended:
            try:
                line = next_line(lines, timeouts.row_s)
            except queue.Empty:
                found = f"no response within {timeouts.row_s:g} s"
                result.rows.append(failed_row(job.phase, step, found, started))
                return
            if line is None:
                found = f"the client process died: {last_line(stderr)}"
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


def next_line(lines: queue.Queue[str | None], timeout_s: float) -> str | None:
    """The client's next line, None after the last one. Raises queue.Empty after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        watch.check()
        try:
            return lines.get(timeout=max(0, min(watch.INTERVAL_S, deadline - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise


def failed_row(phase: str, step: str, found: str, started: float) -> Row:
    return Row(phase, step, "a response", found, False, round(time.monotonic() - started, 3))


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


@contextmanager
def client(
    job: Job, folder: Path, timeouts: Timeouts, stderr: Path
) -> Iterator[queue.Queue[str | None]]:
    """Start the client; its lines come through a queue, and None after the last one.

    The client gets its own session, so that Ctrl-C reaches only this process, which must
    still delete what was written.
    """
    with stderr.open("ab") as log:
        process = subprocess.Popen(
            CLIENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(os.environ, job, folder, timeouts),
            cwd=folder,
            text=True,
            start_new_session=True,
        )
    lines: queue.Queue[str | None] = queue.Queue()
    try:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        # A client that dies at once breaks the pipe; its last line becomes the row.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(job.as_json())
        yield lines
    finally:
        # A client that reported its end has nothing left to do; any other must stop now.
        process.kill()
        process.wait()


def pump(stdout: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def environment(
    inherited: Mapping[str, str], job: Job, folder: Path, timeouts: Timeouts
) -> dict[str, str]:
    """The client's environment: of MLflow's variables only the user's connection settings.

    An anonymous job gets no MLFLOW_TRACKING_ variable and no credentials file. The user's
    MLFLOW_HTTP_REQUEST_TIMEOUT and MLFLOW_HTTP_REQUEST_MAX_RETRIES take precedence. The
    default is no retry: a server that needs a second attempt is a difference.
    """
    found = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_"))
        or (name.startswith(CONNECTION_VARIABLES) and name not in EXCLUDED_VARIABLES)
    }
    if job.anonymous:
        found = {n: v for n, v in found.items() if not n.startswith("MLFLOW_TRACKING_")}
        found["HOME"] = str(folder)
    for name in FILE_VARIABLES:
        if found.get(name):
            found[name] = str(Path(found[name]).absolute())
    found.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(timeouts.request_s))
    found.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    found |= {
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(paths.HERE.root), inherited.get("PYTHONPATH", "")])
        ),
        "TMPDIR": str(folder),
    }
    if job.resolve:
        # A proxy cannot resolve a name that only the client knows.
        for name in ("NO_PROXY", "no_proxy"):
            found[name] = ",".join(filter(None, [inherited.get(name, ""), *job.resolve]))
    return found
