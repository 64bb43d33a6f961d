"""Checks that end slow work early: programs that we started, and waits for a VM."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

#: How often slow work calls `check`.
INTERVAL_S = 0.2

_checks: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("checks", default=())


@contextlib.contextmanager
def during(check: Callable[[], None]) -> Iterator[None]:
    """In the body, slow work calls `check` again and again, and ends when it raises.

    check: cheap, called in the thread that does the work.
    """
    before = _checks.set((*_checks.get(), check))
    try:
        yield
    finally:
        _checks.reset(before)


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """No checks in the body: for cleaning up after one of them has raised."""
    before = _checks.set(())
    try:
        yield
    finally:
        _checks.reset(before)


def check() -> None:
    """Call the checks of all surrounding `during`; raises what they raise."""
    for one in _checks.get():
        one()
