"""The messages between the smoke test's two processes: a job goes in, events come out.

The job is one JSON document on the client's stdin. The events are JSON objects on its stdout,
one a line: {"step": text} before an action, {"row": {...}} after it, {"left_behind": text} for
what stays on the server, {"fatal": {"what", "remedy"}} when there is no server that can be
tested, and {"end": true} at the end.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_image.checks.smoke.report import Row


class PhaseStoppedError(Exception):
    """The phase cannot continue; the row or the fatal event that says why was sent."""


@dataclass(frozen=True)
class Job:
    """What one client process does.

    phase: the name of the phase in the rows. task: write, read or delete. token and
    started_ms: the contents, see Contents. resolve: host names and the addresses that they
    resolve to, in the client only. anonymous: send none of the user's credentials.
    """

    phase: str
    task: str
    url: str
    token: str
    started_ms: int
    resolve: dict[str, str] = field(default_factory=dict)
    anonymous: bool = False

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Reporter:
    """Sends the events of one phase. write: takes one line, with its newline."""

    phase: str
    write: Callable[[str], object]

    def compare(self, what: str, action: Callable[[], tuple[str, str]]) -> None:
        """Run an action that returns (expected, found), and send the comparison as a row.

        An exception becomes a row as well. Raises PhaseStoppedError then: the actions that
        follow would only fail for the same reason.
        """
        self.event(step=what)
        started = time.monotonic()
        try:
            expected, found = action()
        except PhaseStoppedError:
            raise
        except Exception as error:
            traceback.print_exc()
            self.row(what, "a response", brief(error), False, started)
            raise PhaseStoppedError from error
        self.row(what, expected, found, expected == found, started)

    def row(self, what: str, expected: str, found: str, ok: bool, started: float) -> None:
        """Send one row. started: when the action began, by time.monotonic()."""
        seconds = round(time.monotonic() - started, 3)
        self.event(row=asdict(Row(self.phase, what, expected, found, ok, seconds)))

    def left_behind(self, what: str) -> None:
        """Name something that stays on the server because the API cannot delete it."""
        self.event(left_behind=what)

    def fatal(self, what: str, remedy: str) -> PhaseStoppedError:
        """Send that there is no server that can be tested; returns the exception to raise."""
        self.event(fatal={"what": what, "remedy": remedy})
        return PhaseStoppedError()

    def event(self, **content: Any) -> None:
        self.write(json.dumps(content) + "\n")


def brief(error: BaseException) -> str:
    """The type and the text of an exception, on one line."""
    return f"{type(error).__name__}: {brief_text(str(error))}"


def brief_text(text: str, limit: int = 400) -> str:
    """The text on one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
