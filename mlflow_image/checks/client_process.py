"""A client in a process of its own: a job goes in, lines with events come out."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlflow_image import paths, watch

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
class Client:
    """lines: what it prints, and None after the last one."""

    process: subprocess.Popen[str]
    lines: queue.Queue[str | None]

    def next_line(self, timeout_s: float) -> str | None:
        """Its next line, None after the last one. Raises queue.Empty after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            watch.check()
            try:
                left_s = max(0, min(watch.INTERVAL_S, deadline - time.monotonic()))
                return self.lines.get(timeout=left_s)
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise


@contextmanager
def running(
    words: Sequence[str], job: str, variables: Mapping[str, str], folder: Path, stderr: Path
) -> Iterator[Client]:
    """Start a client in a folder and give it its job; it has ended when the body has.

    variables: all of its environment. The client gets its own session, so that Ctrl-C reaches only
    this process, which must still read back or delete what was written.
    """
    with stderr.open("ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=variables,
            cwd=folder,
            text=True,
            start_new_session=True,
        )
    lines: queue.Queue[str | None] = queue.Queue()
    try:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        threading.Thread(target=pump, args=(process.stdout, lines), daemon=True).start()
        # A client that dies at once breaks the pipe; its last line says why.
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(job)
        yield Client(process, lines)
    finally:
        # A client that reported its end has nothing left to do; any other must stop now.
        process.kill()
        process.wait()


def pump(stdout: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stdout:
        lines.put(line)
    lines.put(None)


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def environment(
    inherited: Mapping[str, str],
    folder: Path,
    request_s: int,
    resolve: Mapping[str, str] | None = None,
    *,
    anonymous: bool = False,
) -> dict[str, str]:
    """The client's environment: of MLflow's variables only the user's connection settings.

    resolve: names that only the client can resolve. An anonymous client gets no MLFLOW_TRACKING_
    variable and no credentials file. The user's MLFLOW_HTTP_REQUEST_TIMEOUT and
    MLFLOW_HTTP_REQUEST_MAX_RETRIES take precedence. The default is no retry: a server that needs a
    second attempt is a difference.
    """
    found = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_"))
        or (name.startswith(CONNECTION_VARIABLES) and name not in EXCLUDED_VARIABLES)
    }
    if anonymous:
        found = {n: v for n, v in found.items() if not n.startswith("MLFLOW_TRACKING_")}
        found["HOME"] = str(folder)
    for name in FILE_VARIABLES:
        if found.get(name):
            found[name] = str(Path(found[name]).absolute())
    found.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(request_s))
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
    if resolve:
        # A proxy cannot resolve a name that only the client knows.
        for name in ("NO_PROXY", "no_proxy"):
            found[name] = ",".join(filter(None, [inherited.get(name, ""), *resolve]))
    return found
