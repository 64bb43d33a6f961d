"""The task that counts what a server loses: torture."""

from __future__ import annotations

import time
from pathlib import Path

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.checks.smoke.check import checked_url
from mlflow_image.checks.torture import run
from mlflow_image.checks.torture.report import Report
from mlflow_image.errors import Failure, Refusal
from mlflow_image.paths import HERE, typed_path
from mlflow_image.tasks.task import task

SHOWN = 20


@task(
    help={
        "url": "the server; credentials come from MLFLOW_TRACKING_*",
        "minutes": "how long to log; default: 5",
        "clients": "how many log at the same time; default: 8",
        "record": "the file for the calls; default: a new one in .mlflow-image/torture/",
        "check": "log nothing; read back the calls of this file",
        "json": "print only the report on stdout, as JSON",
    }
)
def torture(
    context: Context,
    url: str = "",
    minutes: str = "5",
    clients: int = 8,
    record: str = "",
    check: str = "",
    json: bool = False,
) -> None:
    """Log without a pause; count what the server loses.

    Break something meanwhile: restart the server, cut its power, fill its disk. Every call is
    written down before it is sent and when it is acknowledged. Afterwards all are read back: an
    acknowledged one must be there, any other must be there wholly or not at all. The exit code is
    1 when one is not. An experiment and registered models named torture-... stay on the server.
    """
    if not url:
        raise Refusal("no server is named", remedy="give --url http://HOST:PORT")
    if check and record:
        raise Refusal("--check and --record exclude each other", remedy="use one of them")
    server = checked_url(url)
    seconds = _seconds(minutes)
    if not 1 <= clients <= 64:
        raise Refusal(f"--clients {clients} is not from 1 to 64")
    path = typed_path(check or record) if check or record else _new_record()
    with progress.on_stderr(json), progress.step(f"torture test of {server}") as step:
        if check:
            report = run.check(server, path, step.update)
        else:
            report = run.torture(server, seconds, clients, path, step.update)
    _print(report, path, json)


def _seconds(minutes: str) -> float:
    try:
        found = float(minutes)
    except ValueError:
        found = 0
    if not 0 < found <= 24 * 60:
        raise Refusal(f"--minutes {minutes} is not a number above 0 and up to 1440")
    return found * 60


def _new_record() -> Path:
    folder = HERE.state / "torture"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / time.strftime("%Y-%m-%d-%H%M%S.jsonl")


def _print(report: Report, path: Path, json: bool) -> None:
    """Print the report; raises Failure when something is lost or half there."""
    if json:
        print(report.as_json())
    else:
        progress.out.print(report.table())
        for text, count in sorted(report.refusals.items(), key=lambda one: -one[1])[:SHOWN]:
            progress.say(f"refused {count} times: {text}")
        progress.say(f"{report.sentence()}\nthe calls: {path}")
    if not report.acknowledged:
        raise Failure("no call was acknowledged, so that nothing was tested")
    if not report.ok:
        shown = "\n".join(one["text"] for one in report.findings[:SHOWN])
        raise Failure(report.sentence(), evidence=shown, remedy=f"all calls are in {path}")
