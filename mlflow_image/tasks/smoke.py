"""The task that proves that a server works: smoke-test."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.builder.place import logs_folder
from mlflow_image.checks import smoke_image
from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.report import Report
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find
from mlflow_image.tasks.task import task


@task(
    help={
        "url": "test this server instead of a VM; credentials come from MLFLOW_TRACKING_*",
        "image": "boot the VM from this image: an id, a folder or a disk; default: the newest",
        "keep": "with --url: leave on the server what was written",
        "json": "print the report as JSON, and nothing else, on stdout",
    }
)
def smoke_test(
    context: Context, url: str = "", image: str = "", keep: bool = False, json: bool = False
) -> None:
    """Log a run with a real MLflow client and read it back.

    Without --url, in a throwaway VM from the newest image, which reboots in between. Ends with
    exit code 1 and the first difference when anything is not as it was written.
    """
    refuse_contradictions(url, image, keep)
    if url:
        server = check.checked_url(url)
        with shown(f"smoke test of {server}", json) as on_step:
            report = check.check_server(server, keep=keep, on_step=on_step)
        tell(report, json)
        if not keep and not json:
            progress.say(f"what was deleted lies in the bin of {server} until `mlflow gc` there")
    else:
        booted = find.resolve(image or None)
        logs = logs_folder("smoke-test")
        try:
            with shown(f"smoke test of {booted.id}", json) as on_step:
                report = smoke_image.check_image(booted, logs, on_step)
            tell(report, json)
        except Failure as failure:
            failure.add_remedy(f"the VM's logs: {logs}")
            raise


def refuse_contradictions(url: str, image: str, keep: bool) -> None:
    """Raise Refusal for flags that do not go together."""
    if url and image:
        raise Refusal("--url contradicts --image", remedy="give one of them")
    if keep and not url:
        raise Refusal(
            "--keep needs --url: without it the whole VM is thrown away",
            remedy="`invoke up`, and then `invoke smoke-test --url URL --keep`",
        )


@contextmanager
def shown(title: str, json: bool) -> Iterator[Callable[[str], None]]:
    """Where the steps go: as always, but with --json to stderr."""
    with progress.on_stderr(json), progress.step(title) as step:
        yield step.update


def tell(report: Report, json: bool) -> None:
    """Print the report on stdout, and on stderr what is still on the server.

    Raises Failure with the first difference when there is one.
    """
    if json:
        print(json_text.dumps(report.document(), indent=2))
    else:
        progress.out.print(report.table())
        if report.ok:
            count, time = len(report.rows), progress.human_seconds(report.seconds)
            progress.say(f"all {count} comparisons hold ({time})")
    for name in report.left_behind:
        progress.warn(f"left on {report.url}: {name}")
    if not report.ok:
        raise Failure(f"not everything is as it was written: {report.difference_text()}")
