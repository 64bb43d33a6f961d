"""One phase of the smoke test in a process of its own: an order goes in, rows come out."""

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
from typing import IO, Any

from mlflow_image import paths
from mlflow_image.checks.smoke.report import Row
from mlflow_image.errors import Failure

CLIENT = (sys.executable, "-m", "mlflow_image.checks.smoke.client")
#: MLflow's own variables that say who we are and how to connect; no other reaches the
#: client: MLFLOW_RUN_ID, MLFLOW_TRACKING_URI and their like would change what is tested.
CONNECTION_VARIABLES = ("MLFLOW_TRACKING_", "MLFLOW_HTTP_", "MLFLOW_S3_", "MLFLOW_WORKSPACE")
NOT_OURS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_DIR")
#: Named relative to the user's folder; the client works in another one.
FILE_VARIABLES = (
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
)


@dataclass(frozen=True)
class Patience:
    """How long the client waits: for an answer of the server, and for one row of the test."""

    request_s: int = 60
    row_s: float = 300.0


@dataclass
class Phase:
    """What one phase told: its rows, what it could not take away, and whether it came to an end."""

    rows: list[Row] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def ok(self) -> bool:
        return self.ended and bool(self.rows) and all(row.ok for row in self.rows)


def run_phase(
    order: Mapping[str, Any],
    folder: Path,
    patience: Patience,
    on_step: Callable[[str], None],
    into: Phase,
) -> None:
    """Start the client with an order, fill `into` with what it tells, see it end.

    order: phase (its name in the rows), task (write, read, delete), url, resolve,
    anonymous, token, started_ms. Raises Failure when the client finds nothing to test
    behind the URL; a client that dies or is silent for too long becomes a row. Ends the
    client, whatever happens, Ctrl-C included.
    """
    step, started = "starting", time.monotonic()
    stderr = folder / "client.log"
    with client(order, folder, patience, stderr) as lines:
        while not into.ended:
            try:
                line = lines.get(timeout=patience.row_s)
            except queue.Empty:
                found = f"nothing for {patience.row_s:g} s"
                into.rows.append(lost(order["phase"], step, found, started))
                return
            if line is None:
                found = f"the client died: {last_line(stderr)}"
                into.rows.append(lost(order["phase"], step, found, started))
                return
            event = json.loads(line)
            if "step" in event:
                step, started = event["step"], time.monotonic()
                on_step(f"{order['phase']}: {step}")
            elif "row" in event:
                into.rows.append(Row(**event["row"]))
            elif "left" in event:
                into.left.append(event["left"])
            elif "fatal" in event:
                raise Failure(event["fatal"]["what"], remedy=event["fatal"]["remedy"])
            into.ended = "end" in event


def lost(phase: str, step: str, found: str, started: float) -> Row:
    return Row(phase, step, "an answer", found, False, round(time.monotonic() - started, 3))


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def client(
    order: Mapping[str, Any], folder: Path, patience: Patience, stderr: Path
) -> Iterator[queue.Queue[str | None]]:
    """The client process; its lines come through a queue, None when there are no more.

    In a session of its own: Ctrl-C is for the asking process, which must still delete
    what was written.
    """
    with stderr.open("ab") as log:
        process = subprocess.Popen(
            CLIENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(os.environ, order, folder, patience),
            cwd=folder,
            text=True,
            start_new_session=True,
        )
    lines: queue.Queue[str | None] = queue.Queue()
    try:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both were asked for")
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        # A client that dies at once breaks the pipe; its last line becomes the row.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(order))
        yield lines
    finally:
        # One that came to its end has nothing more to do; any other must not go on.
        process.kill()
        process.wait()


def pump(stdout: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def environment(
    inherited: Mapping[str, str], order: Mapping[str, Any], folder: Path, patience: Patience
) -> dict[str, str]:
    """The client's environment: the user's connection settings, none of MLflow's others.

    An anonymous order gets no MLFLOW_TRACKING_ variable and no credentials file.
    MLFLOW_HTTP_REQUEST_TIMEOUT and MLFLOW_HTTP_REQUEST_MAX_RETRIES of the user win. Ours
    are no retries: a server that answers only at the second try is a difference.
    """
    ours = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_"))
        or (name.startswith(CONNECTION_VARIABLES) and name not in NOT_OURS)
    }
    if order["anonymous"]:
        ours = {n: v for n, v in ours.items() if not n.startswith("MLFLOW_TRACKING_")}
        ours["HOME"] = str(folder)
    for name in FILE_VARIABLES:
        if ours.get(name):
            ours[name] = str(Path(ours[name]).absolute())
    ours.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(patience.request_s))
    ours.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ours |= {
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
    if resolve := order["resolve"]:
        # A name that only the client knows means nothing to a proxy.
        for name in ("NO_PROXY", "no_proxy"):
            ours[name] = ",".join(filter(None, [inherited.get(name, ""), *resolve]))
    return ours
