"""The calls that clients have sent, in a file outside of the server: one JSON object a line.

A call is written before it is sent and once more when the server has acknowledged or refused it, so
that the file says what must be there even when the client itself has been killed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow_image.errors import Refusal

SENT, ACKNOWLEDGED, REFUSED = "sent", "acknowledged", "refused"
#: What the calls of a client do, in the order of the report.
KINDS = ("run", "batch", "metric", "tag", "artifact", "version", "end")


@dataclass(frozen=True)
class Call:
    """One call. number: unique in a file. value: what must be found, in words of the kind.

    run: the run's id, "" before there is one. At its end, a version has its number as the value.
    """

    kind: str
    number: int
    run: str = ""
    value: str = ""


@dataclass
class Outcome:
    """What the file says of a call."""

    call: Call
    state: str


class Record:
    """Appends to the file, for many threads. What was appended survives the end of this process."""

    def __init__(self, path: Path) -> None:
        _cut_half_a_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self.counts = dict.fromkeys((SENT, ACKNOWLEDGED, REFUSED), 0)

    def write(self, call: Call, state: str) -> None:
        line = json.dumps({"state": state, **asdict(call)})
        with self._lock:
            self._file.write(f"{line}\n")
            self._file.flush()
            self.counts[state] += 1

    def close(self) -> None:
        with self._lock:
            os.fsync(self._file.fileno())
            self._file.close()


def _cut_half_a_line(path: Path) -> None:
    """Remove what a client that was killed has left of its last line."""
    if path.is_file():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def read(path: Path) -> list[Outcome]:
    """Every call of the file with its last state. Raises Refusal that names what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(
            f"{path} cannot be read: {error}", remedy="name a file of --record"
        ) from error
    found: dict[int, Outcome] = {}
    for call, state in _lines(path, text):
        found[call.number] = Outcome(call, state)
    return list(found.values())


def _lines(path: Path, text: str) -> Iterator[tuple[Call, str]]:
    complete = text[: text.rfind("\n") + 1]  # a client that is killed leaves a part of a line
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            fields = json.loads(line)
            state = fields.pop("state")
            call = Call(**fields)
            if state not in (SENT, ACKNOWLEDGED, REFUSED) or call.kind not in KINDS:
                raise ValueError(f"{call.kind}, {state}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            remedy = "name a file that `invoke torture --record` has written"
            raise Refusal(f"{path}:{number}: is not a call: {error}", remedy=remedy) from error
        yield call, state
