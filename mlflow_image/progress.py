"""How progress and messages are printed: a live line on a terminal, a plain log elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import filesize
from rich.console import Console
from rich.status import Status
from rich.text import Text

from mlflow_image.errors import as_typed

out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

#: Width of tables when the output is not a terminal.
PLAIN_COLUMNS = 120
for console in (out, err):
    if not console.is_terminal:
        console.width = PLAIN_COLUMNS

#: The least time between two lines of the same step when the output is not a terminal.
PLAIN_INTERVAL_S = 15.0


class Step:
    """Slow work in progress; `update` shows what it is doing now."""

    def __init__(self, title: str, status: Status | None = None) -> None:
        self.title = title
        self.detail = ""
        self.started = time.monotonic()
        #: Finished phases: (title, seconds).
        self.phases: list[tuple[str, float]] = []
        self._status = status
        self._printed_at = self.started
        self._phase = ""
        self._phase_started = self.started

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def update(self, detail: str) -> None:
        """Show a detail of the step; cheap enough to call for every line of output."""
        self.detail = detail
        if self._status is not None:
            self._status.update(self)
        else:
            self.print_if_due()

    def print_if_due(self) -> None:
        """Print the step's line, unless one was printed in the last PLAIN_INTERVAL_S seconds."""
        now = time.monotonic()
        if now - self._printed_at >= PLAIN_INTERVAL_S:
            self._printed_at = now
            out.print(f"   {self._line()}", markup=False)

    def bytes_of(self, received: int, promised: int) -> None:
        """Show how much of a download was received; promised: its size in bytes, or 0."""
        of = f" of {human_bytes(promised)}" if promised else ""
        rate = received / max(self.seconds, 0.001)
        self.update(f"{human_bytes(received)}{of}, {human_bytes(rate)}/s")

    def phase(self, title: str) -> None:
        """Begin a named part of the step; the previous part is printed with its time."""
        now = time.monotonic()
        if self._phase:
            seconds = now - self._phase_started
            self.phases.append((self._phase, seconds))
            out.print(f"   - {self._phase} ({seconds:.1f} s)", markup=False)
            self._printed_at = now
        self._phase, self._phase_started = title, now
        if title:
            self.update(title)

    def phase_once(self, title: str) -> None:
        """Like `phase`, but calls with the current phase's title do not begin it again."""
        if title == self._phase:
            self.update(title)
        else:
            self.phase(title)

    @property
    def current_phase(self) -> str:
        """The current phase; empty before the first."""
        return self._phase

    def __rich__(self) -> Text:
        """The live line; made at every redraw, so that its seconds advance without `update`."""
        # Not a str: Rich would read brackets in it as markup.
        return Text(self._line(), no_wrap=True, overflow="ellipsis")

    def _line(self) -> str:
        return f"{self.title} ({self.seconds:.0f} s) {self.detail}"[:140]


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show and time slow work: `with step("Unpacking packages") as s: ...`."""
    current = Step(title)
    try:
        if out.is_terminal:
            with out.status("") as status:
                current = Step(title, status)
                current.update("")
                yield current
                current.phase("")
        else:
            out.print(f".. {title}", markup=False)
            with heartbeat(current):
                yield current
            current.phase("")
    except BaseException:
        where = f", {current.current_phase}" if current.current_phase else ""
        out.print(f"-- {title} did not finish ({current.seconds:.1f} s{where})", markup=False)
        raise
    out.print(f"ok {title} ({current.seconds:.1f} s)", markup=False)


@contextmanager
def heartbeat(current: Step) -> Iterator[None]:
    """Print a line of the step every PLAIN_INTERVAL_S seconds, even if nothing calls `update`."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(PLAIN_INTERVAL_S):
            current.print_if_due()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def on_stderr(wanted: bool = True) -> Iterator[None]:
    """If wanted, print to stderr in the body: stdout is then for output that programs read."""
    global out
    usual = out
    if wanted:
        out = err
    try:
        yield
    finally:
        out = usual


def say(text: str) -> None:
    """One line to the user, on stdout."""
    out.print(as_typed(text), markup=False)


def warn(text: str) -> None:
    """A warning to the user, on stderr."""
    err.print(f"warning: {as_typed(text)}", markup=False, style="yellow")


def error(text: str) -> None:
    """Why the task failed, on stderr."""
    err.print(f"error: {text}", markup=False, style="red")


def human_bytes(count: float) -> str:
    """A size in decimal units: 1.4 GB, 312 MB; one decimal from 1 GB up, none below."""
    return filesize.decimal(int(count), precision=0 if count < 10**9 else 1)


def human_seconds(seconds: float) -> str:
    """A duration in seconds or minutes: 42 s, 3 min 05 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
