"""The task that checks that a server works: smoke-test."""

from __future__ import annotations

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
        "image": "boot the VM from this image: id, folder or disk file; default: the newest image",
        "keep": "with --url: do not delete from the server what was written",
        "json": "print only the report on stdout, as JSON",
    }
)
def smoke_test(
    context: Context, url: str = "", image: str = "", keep: bool = False, json: bool = False
) -> None:
    """Log a run with a real MLflow client and read it back.

    Without --url, the server is a throwaway VM from the newest image, which is rebooted during
    the test. If anything differs from what was written, the first difference is printed and
    the exit code is 1.
    """
    refuse_contradictions(url, image, keep)
    if url:
        server = check.checked_url(url)
        with reported(f"smoke test of {server}", json) as on_step:
            report = check.check_server(server, check.Options(keep=keep), on_step)
        print_report(report, json)
        if not keep and not json:
            progress.say(
                f"deleted items stay in the trash on {server} until you run `mlflow gc` there"
            )
    else:
        booted = find.resolve(image or None)
        logs = logs_folder("smoke-test")
        try:
            with reported(f"smoke test of {booted.id}", json) as on_step:
                report = smoke_image.check_image(booted, logs, on_step)
            print_report(report, json)
        except Failure as failure:
            failure.add_remedy(f"the VM's logs: {logs}")
            raise


def refuse_contradictions(url: str, image: str, keep: bool) -> None:
    """Raise Refusal for flags that exclude each other."""
    if url and image:
        raise Refusal("--url and --image exclude each other", remedy="give one of them")
    if keep and not url:
        raise Refusal(
            "--keep needs --url: without it the VM is deleted at the end",
            remedy="run `invoke up`, then `invoke smoke-test --url URL --keep`",
        )


@contextmanager
def reported(title: str, json: bool) -> Iterator[Callable[[str], None]]:
    """Show the steps: on stdout, or with --json on stderr."""
    with progress.on_stderr(json), progress.step(title) as step:
        yield step.update


def print_report(report: Report, json: bool) -> None:
    """Print the report on stdout, and on stderr what stays on the server.

    Raises Failure with the first difference when there is one.
    """
    if json:
        print(report.as_json())
    else:
        progress.out.print(report.table())
        if report.ok:
            count, time = len(report.rows), progress.human_seconds(report.seconds)
            progress.say(f"all {count} comparisons passed ({time})")
    for name in report.left_behind:
        progress.warn(f"left on {report.url}: {name}")
    if not report.ok:
        raise Failure(f"the smoke test found a difference: {report.difference_text()}")
