"""The smoke test's own process: a real MLflow client that runs one phase and reports it.

    python -m mlflow_image.checks.smoke.client < job.json

Every phase gets a new process, so that nothing is read from a cache. The changed resolver and
MLflow's environment variables stay inside this process.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_image.checks.smoke.contents import Contents
from mlflow_image.checks.smoke.protocol import Job, PhaseStoppedError, Reporter, brief


def main() -> None:
    """Read a job from stdin and run it; events go to stdout, everything else to stderr."""
    job = Job.from_json(sys.stdin.read())
    reporter = Reporter(job.phase, private_stdout())
    patch_resolver(job.resolve)
    try:
        perform(job, reporter)
    except PhaseStoppedError:
        pass
    except Exception as error:
        traceback.print_exc()
        reporter.row("the client", "no internal error", brief(error), False, time.monotonic())
    reporter.event(end=True)
    # Skip atexit: MLflow would end an open run there, and wait for a server that may hang.
    os._exit(0)


def perform(job: Job, reporter: Reporter) -> None:
    """Import MLflow (2-3 s) and run the phase."""
    reporter.event(step="starting an MLflow client")
    from mlflow_image.checks.smoke import probe, steps

    contents = Contents(job.token, job.started_ms)
    session = steps.Session(job.url, contents, Path.cwd(), reporter)
    if job.task == "write":
        probe.probe(job.url, reporter)
    steps.TASKS[job.task](session)


def patch_resolver(resolve: Mapping[str, str]) -> None:
    """Resolve the given names to the given addresses, in this process only."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real(resolve.get(name, host), *args, **kwargs)

    if resolve:
        socket.getaddrinfo = getaddrinfo


def private_stdout() -> Callable[[str], object]:
    """Reserve stdout for the events; anything else that prints there goes to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(line: str) -> None:
        events.write(line)
        events.flush()

    return write


if __name__ == "__main__":
    main()
