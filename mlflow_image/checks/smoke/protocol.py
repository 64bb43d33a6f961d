"""The lines between the smoke test's two processes: what the client tells, one JSON object each.

{"step": text} before a thing is done, {"row": {...}} after it, {"left": text} for what
stays on the server, {"fatal": {what, remedy}} when there is nothing to test, {"end": true}.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_image.checks.smoke.report import Row


class PhaseOverError(Exception):
    """The phase cannot go on; its row or its fatal line has been told."""


@dataclass
class Telling:
    """The way out: rows and steps as JSON lines on the pipe to the asking process."""

    phase: str
    pipe: Callable[[str], object]

    def check(self, what: str, action: Callable[[], tuple[str, str]]) -> None:
        """Do one thing and tell it as a row; both texts equal means as it was written.

        An exception is a row too, and raises PhaseOverError: what follows would only repeat it.
        """
        self.line(step=what)
        started = time.monotonic()
        try:
            expected, found = action()
        except PhaseOverError:
            raise
        except Exception as error:
            traceback.print_exc()
            self.row(what, "an answer", brief(error), False, started)
            raise PhaseOverError from error
        self.row(what, expected, found, expected == found, started)

    def row(self, what: str, expected: str, found: str, ok: bool, started: float) -> None:
        seconds = round(time.monotonic() - started, 3)
        self.line(row=asdict(Row(self.phase, what, expected, found, ok, seconds)))

    def left(self, what: str) -> None:
        """Name something that stays on the server because its API cannot take it away."""
        self.line(left=what)

    def fatal(self, what: str, remedy: str) -> PhaseOverError:
        """Tell that this is no server to test; raise what comes back."""
        self.line(fatal={"what": what, "remedy": remedy})
        return PhaseOverError()

    def line(self, **event: Any) -> None:
        self.pipe(json.dumps(event) + "\n")


def brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {brief_text(str(error))}"


def brief_text(text: str, limit: int = 400) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
