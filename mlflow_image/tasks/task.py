"""Invoke's @task, with our errors printed as messages and turned into exit codes."""

from __future__ import annotations

import functools
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import invoke.tasks
from invoke.exceptions import Exit

from mlflow_image import progress
from mlflow_image.errors import Failure, Refusal

Body = TypeVar("Body", bound=Callable[..., Any])


class TerminalClosed(KeyboardInterrupt):
    """The terminal is gone, which ends the work, but not a VM that has a name."""


def task(**options: Any) -> Callable[[Body], Any]:
    """As `invoke.task`; a Failure ends with its message on stderr and its exit code.

    So does what the system refuses (a full disk, a folder of somebody else's).
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
                progress.error(refused_by_system(error))
                raise Exit(code=1) from error
            except KeyboardInterrupt as interrupt:
                progress.err.print("interrupted", markup=False)
                raise Exit(code=130) from interrupt

        return invoke.tasks.task(**options)(guarded)

    return decorate


def refuse_unknown(flag: str, value: str, choices: Sequence[str]) -> None:
    """Raise Refusal for a value of a flag that is none of its choices."""
    if value not in choices:
        raise Refusal(
            f"--{flag} {value}: unknown", remedy=f"one of {', '.join(filter(None, choices))}"
        )


def whole_number(flag: str, text: str) -> int:
    """A flag's value as a number, where Invoke's own conversion ends in a traceback.

    Raises Refusal naming the flag.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(
            f"--{flag} {text!r} is no whole number", remedy="digits alone, without a unit"
        )
    return int(text)


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM and a closed terminal clean up as Ctrl-C does: Packer has a session of its own.

    What is ignored stays ignored, as nohup(1) wants it; but a background shell has SIGINT ignored,
    and what is started here inherits that, where a handler is not inherited (execve(2)): our own
    request to end must reach it.
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


def refused_by_system(error: OSError) -> str:
    """What the system said, in one line with the place."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said
