"""Invoke's @task, with our errors printed as messages and turned into exit codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import invoke.tasks
from invoke.exceptions import Exit

from mlflow_image import progress
from mlflow_image.errors import Failure

Body = TypeVar("Body", bound=Callable[..., Any])


def task(**options: Any) -> Callable[[Body], Any]:
    """As `invoke.task`; a Failure ends with its message on stderr and its exit code."""

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return body(*args, **kwargs)
            except Failure as failure:
                progress.err.print(f"error: {failure}", markup=False, style="red")
                raise Exit(code=failure.exit_code) from failure
            except KeyboardInterrupt as interrupt:
                progress.err.print("interrupted; nothing was left running", markup=False)
                raise Exit(code=130) from interrupt

        return invoke.tasks.task(**options)(guarded)

    return decorate
