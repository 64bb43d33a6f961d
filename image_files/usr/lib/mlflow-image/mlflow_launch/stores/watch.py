"""Waits until the server's stores can be used, watches them afterwards, and says what is wrong.

Each look at a store is a process of its own: the launcher stays without sockets and threads, which
its workers could not share. The line for people is in a file of the unit's directory; a path unit
prints it on the console whenever it changes.
"""

from __future__ import annotations

import contextlib
import locale
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_launch import failures, notify, places
from mlflow_launch.log import say, warn
from mlflow_launch.stores import hdfs, postgresql, s3

NAME = "store"
REACHED = "the stores can be reached again"
# While waiting; later looks are rarer.
_FIRST_S = 2.0
_LONGEST_S = 10.0
#: Between two looks while the server runs.
EVERY_S = 60.0
# Longer than all timeouts of a look together.
_LOOK_S = 120.0


@dataclass(frozen=True)
class Stores:
    """The two stores. database: MLflow's URI. artifacts: a path, or a place in S3 or HDFS."""

    database: str
    artifacts: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Stores:
        """Those that the server's variables name."""
        names = ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION")
        database, artifacts = (environment.get(name, "") for name in names)
        return cls(database, artifacts, environment)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are not a file of this machine: each has a list of modules."""
        remote = {
            "postgresql": self._is_postgresql,
            "s3": self._is_s3,
            "hdfs": self._is_hdfs,
        }
        return tuple(kind for kind, there in remote.items() if there)

    def trouble(self, *, write: bool) -> str:
        """What is wrong with the first store that cannot be used; "" when nothing is."""
        found = postgresql.trouble(self.database) if self._is_postgresql else ""
        if not found and self._is_s3:
            found = s3.trouble(self.artifacts, self.environment, write=write)
        if not found and self._is_hdfs:
            found = hdfs.trouble(self.artifacts, write=write)
        return failures.without_secrets(found, self.environment)

    @property
    def _is_postgresql(self) -> bool:
        return self.database.startswith(postgresql.SCHEME)

    @property
    def _is_s3(self) -> bool:
        return self.artifacts.startswith(s3.SCHEME)

    @property
    def _is_hdfs(self) -> bool:
        return self.artifacts.startswith(hdfs.SCHEME)


class Look:
    """A look at the stores in a process of its own; `result` waits for it."""

    def __init__(self, work: Callable[[], str]) -> None:
        readable, writable = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(readable)
            _answer(work, writable)
        os.close(writable)
        self._readable = readable

    def result(self) -> str:
        """What was found; a look that ended without an answer found that."""
        with os.fdopen(self._readable, encoding="utf-8") as pipe:
            text = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code == -signal.SIGALRM:
            return f"the stores did not answer within {_LOOK_S:.0f} s; check firewalls and DNS"
        return text if code == 0 else f"the stores could not be looked at: exit code {code}"


def forget() -> None:
    """A new start knows nothing of the stores yet."""
    with contextlib.suppress(OSError):
        _file().unlink(missing_ok=True)


def wait(stores: Stores, look: Look | None = None) -> None:
    """Return when the stores can be used; says what is wrong, and again when that changes.

    look: the first one, which the caller has begun.
    """
    if not stores.kinds:
        return
    said, pause_s = "", _FIRST_S
    while found := (look or Look(lambda: stores.trouble(write=True))).result():
        look = None
        if found != said:
            report(found)
            said = found
        notify.still_starting(f"waiting: {found}", pause_s + _LOOK_S)
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_S)
    if said:
        report("")


def look_again(stores: Stores) -> None:
    """Look once while the server runs; says what is wrong when that has changed.

    Runs in a process of its own.
    """
    with contextlib.suppress(OSError):
        found = stores.trouble(write=False)
        if found != _before():
            report(found)


def report(trouble: str) -> None:
    """Log what is wrong, or that nothing is any more, and leave it for the console."""
    if trouble:
        warn(trouble)
    else:
        say(REACHED)
    with contextlib.suppress(OSError):
        path = _file()
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(f"{trouble or REACHED}\n", encoding="utf-8")
        fresh.replace(path)


def _before() -> str:
    try:
        text = _file().read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return "" if text == REACHED else text


def _file() -> Path:
    return places.unit_directory() / NAME


def _answer(work: Callable[[], str], writable: int) -> None:
    code = 1
    try:
        signal.alarm(int(_LOOK_S))
        # Errors of the driver are told apart by their English text.
        os.environ["LC_ALL"] = "C.UTF-8"
        locale.setlocale(locale.LC_ALL, "C")
        text = work()
        with os.fdopen(writable, "w", encoding="utf-8", errors="replace") as pipe:
            pipe.write(text)
        code = 0
    except BaseException as error:
        say(f"looking at the stores: {type(error).__name__}")
    finally:
        sys.stderr.flush()
        os._exit(code)
