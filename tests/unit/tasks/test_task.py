"""Tasks: an error becomes one message on standard error and an exit code, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image import space
from mlflow_image.errors import Failure, Refusal
from mlflow_image.tasks import namespace
from mlflow_image.tasks.task import describe, task

ENDINGS = [
    (Refusal("no such system", remedy="choose another"), 2, "error: no such system\nWhat to do:"),
    (
        Failure("it broke [here]", evidence="last line"),
        1,
        "error: it broke [here]\n\n    last line",
    ),
    (KeyboardInterrupt(), 130, "interrupted"),
    (OSError(28, "No space left on device", "/c"), 1, "error: /c: No space left on device\n"),
]


@pytest.mark.parametrize(
    ("error", "code", "message"), ENDINGS, ids=["refusal", "failure", "ctrl-c", "system"]
)
def test_an_error_becomes_a_message_and_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @task()
    def failing(context: Context) -> None:
        raise error

    with pytest.raises(Exit) as caught:
        failing(Context())
    assert caught.value.code == code
    printed = capsys.readouterr()
    assert printed.err.startswith(message)
    assert printed.out == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_task_cleans_up_as_after_ctrl_c(number: signal.Signals) -> None:
    cleaned = []

    @task()
    def waiting(context: Context) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            cleaned.append(True)

    with pytest.raises(Exit) as caught:
        waiting(Context())
    assert caught.value.code == 130
    assert cleaned == [True]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_task_under_nohup_survives_the_end_of_its_terminal() -> None:
    @task()
    def continuing(context: Context) -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        return "done"

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert continuing(Context()) == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_inherited_ignored_sigint_stays_ignored_but_ends_started_programs() -> None:
    code = """
import os, signal, subprocess
from mlflow_image.tasks.task import ended_like_ctrl_c
with ended_like_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    started = subprocess.Popen(["sleep", "60"])
    started.send_signal(signal.SIGINT)
    print(started.wait())
"""
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{-signal.SIGINT}\n", "")


def test_every_task_and_every_flag_has_help() -> None:
    tasks = namespace().tasks
    assert {"build-image", "plan", "fetch", "up", "smoke-test", "test"} <= set(tasks)
    for name, found in tasks.items():
        assert found.__doc__, f"{name} has no help"
        missing = [argument.name for argument in found.get_arguments() if not argument.help]
        assert not missing, f"{name}: flags without help: {missing}"


def test_the_description_of_every_task_fits_into_one_line_of_the_list() -> None:
    for name, found in namespace().tasks.items():
        line = (found.__doc__ or "").splitlines()[0]
        assert len(f"  {name:<14} {line}") <= 79, f"{name}: its line in --list is too long"


def test_a_full_disk_is_named_even_if_the_system_names_no_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "is_full", lambda folder: folder == cache)
    monkeypatch.setattr(space, "free_mib", lambda _: 3)
    message = describe(OSError(28, "No space left on device"))
    assert message == f"No space left on device; free are 3 MiB in {cache}"
