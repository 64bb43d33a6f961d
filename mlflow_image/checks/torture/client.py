"""The torture test's own process, with a real MLflow client.

    python -m mlflow_image.checks.torture.client < job.json

The job is one JSON document: {"task": "write" or "verify", "url", "record": path, "token",
"threads", "seconds"}. The events on stdout are JSON objects, one a line: {"step": text}, and those
of the smoke test's probe; at the end {"refusals": {text: count}} or {"findings": [...]}. SIGTERM
ends the writing early.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow_image.checks.smoke.client import private_stdout
from mlflow_image.checks.smoke.protocol import PhaseStoppedError, Reporter, brief
from mlflow_image.checks.torture import record


def main() -> None:
    """Read a job from stdin and do it."""
    job = json.loads(sys.stdin.read())
    reporter = Reporter("torture", private_stdout())
    try:
        write(job, reporter) if job["task"] == "write" else verify(job, reporter)
    except PhaseStoppedError:
        os._exit(1)
    except Exception as error:
        reporter.fatal(brief(error), "see whether the server is ready; then use --check")
        os._exit(1)
    # Skip atexit: MLflow would wait there for a server that may hang.
    os._exit(0)


def write(job: dict[str, Any], reporter: Reporter) -> None:
    from mlflow_image.checks.smoke import probe
    from mlflow_image.checks.torture.write import Writers

    probe.probe(job["url"], reporter)
    path = Path(job["record"])
    first = 1 + max((one.call.number for one in record.read(path)), default=0)
    log = record.Record(path)
    writers = Writers(job["url"], log, job["token"], first)
    signal.signal(signal.SIGTERM, lambda *_: writers.stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def say() -> None:
        counts = log.counts
        text = f"{counts[record.ACKNOWLEDGED]} calls acknowledged, {counts[record.REFUSED]} refused"
        reporter.event(step=text)

    writers.run(job["threads"], job["seconds"], say)
    log.close()
    reporter.event(refusals=dict(writers.refusals))


def verify(job: dict[str, Any], reporter: Reporter) -> None:
    from mlflow_image.checks.torture.verify import verify

    outcomes = record.read(Path(job["record"]))
    found = verify(
        job["url"],
        outcomes,
        lambda done, of: reporter.event(step=f"read back {done} of {of} runs"),
    )
    reporter.event(findings=[asdict(one) for one in found])


if __name__ == "__main__":
    main()
