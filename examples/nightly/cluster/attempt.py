"""One attempt of a step at a time: a new one ends what is left of an earlier one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from settings import HERE, REFUSED, RefusedError

LOCKS = HERE / ".locks"
#: Seconds that an earlier attempt has to end by itself.
GRACE_S = 15.0


def run(step: Callable[[], None]) -> None:
    """Run a step: one line and exit code 2 if it is refused, 1 if it failed."""
    # sshd sends SIGHUP when Airflow's task is gone: what was begun is then marked as failed.
    for name in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, ended)
    try:
        step()
    except RefusedError as refused:
        print(f"refused: {refused}", file=sys.stderr, flush=True)
        sys.exit(REFUSED)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def ended(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def only(name: str) -> Iterator[None]:
    """Hold the lock of a step and its range of days while the body runs."""
    LOCKS.mkdir(exist_ok=True)
    path = LOCKS / name
    with path.open("a+") as file:
        deadline = time.monotonic() + GRACE_S
        while not taken(file.fileno()):
            end(path, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.5)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end(path: Path, how: signal.Signals) -> None:
    """Send a signal to the process that holds the lock, if it is still one of ours."""
    text = path.read_text()
    if not text.isdecimal() or int(text) == os.getpid():
        return
    script = Path(sys.argv[0]).name.encode()
    with contextlib.suppress(OSError):
        if script in Path("/proc", text, "cmdline").read_bytes():
            print(f"an earlier attempt, process {text}, still runs: {how.name}", flush=True)
            os.kill(int(text), how)
