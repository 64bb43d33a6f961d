"""Invoke's @task, with our errors printed as messages and turned into exit codes."""

from __future__ import annotations

import functools
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import invoke.tasks
from invoke.exceptions import Exit

from mlflow_image import paths, progress, space
from mlflow_image.errors import Failure, Refusal

Body = TypeVar("Body", bound=Callable[..., Any])


class TerminalClosed(KeyboardInterrupt):
    """The terminal was closed: the task ends, but a VM with a name keeps running."""


def task(**options: Any) -> Callable[[Body], Any]:
    """Like `invoke.task`; a Failure is printed on stderr and becomes the exit code.

    So does an OSError, such as a full disk or a folder without write permission (exit code 1).
    """

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                with ended_like_ctrl_c():
                    return body(*args, **kwargs)
            except Failure as failure:
                progress.error(str(failure))
                raise Exit(code=failure.exit_code) from failure
            except OSError as error:
                progress.error(describe(error))
                raise Exit(code=1) from error
            except KeyboardInterrupt as interrupt:
                progress.err.print("interrupted", markup=False)
                raise Exit(code=130) from interrupt

        return invoke.tasks.task(**options)(guarded)

    return decorate


def refuse_unknown(flag: str, value: str, choices: Sequence[str]) -> None:
    """Raise Refusal for a flag's value that is not one of the choices."""
    if value not in choices:
        raise Refusal(
            f"--{flag} {value}: unknown", remedy=f"use {', '.join(filter(None, choices))}"
        )


def whole_number(flag: str, text: str) -> int:
    """A flag's value as a number; Invoke's own conversion would end in a traceback.

    Raises Refusal with the flag's name.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(
            f"--{flag} {text!r} is not a whole number", remedy="use digits only, without a unit"
        )
    return int(text)


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Make SIGTERM and SIGHUP (closed terminal) clean up like Ctrl-C.

    Programs that we start run in their own sessions, so we must end them ourselves.
    Ignored signals stay ignored, as nohup(1) requires. SIGINT, which shells ignore for background
    jobs, gets a handler that does nothing: children would inherit an ignored signal, but not a
    handler (execve(2)), and our own SIGINT must be able to end them.
    """

    def interrupt(number: int, _frame: object) -> NoReturn:
        raise TerminalClosed if number == signal.SIGHUP else KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe(error: OSError) -> str:
    """The operating system's message in one line, with the file if there is one.

    An error of a write has no file: for a full disk, the folders of ours that are on one follow.
    """
    message = error.strerror or str(error)
    if error.filename:
        message = f"{error.filename}: {message}"
    if error.errno in space.ERRNOS:
        ours = (paths.cache(), paths.HERE.state, Path(tempfile.gettempdir()))
        full = [
            f"{space.free_mib(folder)} MiB in {folder}" for folder in ours if space.is_full(folder)
        ]
        message += f"; free are {', '.join(full)}" if full else ""
    return message
