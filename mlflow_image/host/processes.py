"""Processes, identified by pid and start time: start one detached, find it again, end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow_image import files
from mlflow_image.errors import Failure

POLL_S = 0.1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: The file in a scratch folder that names the process that uses the folder.
OWNER_NAME = "owner.json"


@dataclass(frozen=True)
class Process:
    """A pid and a start time: the kernel may reuse a pid for another program.

    started: the host's boot id and the start time in clock ticks since boot, field 22
    of proc_pid_stat(5); unlike wall-clock time it does not change when the clock is set.
    """

    pid: int
    started: str


def start_detached(
    argv: Sequence[str | Path], *, cwd: Path, stderr: Path, dies_with_us: bool = False
) -> Process:
    """Start a program in its own session, without a terminal; it continues when we exit.

    stderr: receives its output; an older file is overwritten. dies_with_us: the kernel kills
    the program when this process dies in any way, kill -9 included (setpriv(1),
    PR_SET_PDEATHSIG). Raises Failure when the program is not found.
    """
    words = [str(word) for word in argv]
    if dies_with_us:
        words = ["setpriv", "--pdeathsig", "KILL", "--", *words]
    try:
        with stderr.open("wb") as log:
            started = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise Failure(
            f"{words[0]} was not found on this host",
            remedy="run `invoke doctor` to see what is missing",
        ) from error
    _children[started.pid] = started
    return Process(started.pid, start_time(started.pid) or "")


def start_time(pid: int) -> str | None:
    """The `started` of a running process; None when the pid has none or only a zombie."""
    try:
        # The program's name may contain spaces and parentheses: count from the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    return None if state in "ZX" else f"{BOOT_ID.read_text().strip()} {ticks}"


def is_alive(process: Process) -> bool:
    """Whether this process still runs, as opposed to another one with the same pid."""
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        del _children[process.pid]
        return False
    return bool(process.started) and start_time(process.pid) == process.started


def this_process() -> Process:
    """The process that runs this code."""
    return Process(os.getpid(), start_time(os.getpid()) or "")


def make_owned_folder(folder: Path) -> None:
    """Create a folder (mode 0700) that names this process as its owner, for `has_living_owner`."""
    with files.new_folder(folder) as temporary:
        temporary.chmod(0o700)
        files.write(temporary / OWNER_NAME, json.dumps(asdict(this_process())))


def has_living_owner(folder: Path) -> bool:
    """Whether the process that created the folder still runs; False if it names no owner."""
    try:
        owner = Process(**json.loads((folder / OWNER_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return False
    return is_alive(owner)


def was_abandoned(folder: Path) -> bool:
    """Whether the process that created the folder has ended; False if it names no owner.

    A folder without an owner comes from an earlier version, whose process may still run.
    """
    return (folder / OWNER_NAME).exists() and not has_living_owner(folder)


def wait_for_end(process: Process, timeout_s: float) -> bool:
    """Wait at most `timeout_s` for a process to end; returns whether it did."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(process: Process, *, patience_s: float = 5) -> None:
    """End a process: SIGTERM, then SIGKILL after `patience_s`. An ended process is ignored.

    Raises Failure when it survives SIGKILL for 10 s.
    """
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10)):
        if not is_alive(process):
            return
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return
        if wait_for_end(process, wait_s):
            return
    raise Failure(f"process {process.pid} did not end after SIGKILL")


#: The Popen objects of our children, which are needed to reap them when they end.
_children: dict[int, subprocess.Popen[bytes]] = {}
