"""Runs other programs: returns their output, or raises one readable error.

Never pass a secret as an argument, which other users can see; use `stdin` or a file.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlflow_image import watch
from mlflow_image.errors import Failure

LAST_LINES = 20
LINE_CHARS = 400
#: How long an interrupted program may take to clean up.
GRACE_S = 30
#: The same for a program that a check of `watch` ended.
CHECKED_GRACE_S = 5
#: The most that a pipe can hold (pipe(7)), so one read after the program ended gets the rest.
PIPE_BYTES = 1 << 20
#: Waits for a line; at the end of its input without one, kills the process group $1.
GUARD = 'read -r line || kill -s KILL -- "-$1"'
#: gettext ignores LANGUAGE only if it is empty or the locale is plain C.
ENGLISH = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}
#: Debian installs sfdisk and mke2fs here, and the PATH of ordinary users lacks these folders.
os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


class TimedOut(Failure):
    """A program was ended because it took longer than it may."""


@dataclass(frozen=True)
class Completed:
    """The result of a program: its exit code, its output, how long it took."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    check: bool = True,
    timeout_s: float | None = None,
    remedy: str = "",
) -> Completed:
    """Run a program until it exits and return what it printed.

    env: added to this process's environment. Messages are in English, because we compare them,
    unless env sets another LC_ALL. log: the command line and its output are
    appended to this file. Raises Failure with the last lines of output when `check` is set
    and the exit code is not 0, and when the program cannot be started; TimedOut when it takes
    longer than `timeout_s`; and what a check of `watch.during` raises. After an exception, Ctrl-C
    included, the program and everything that it started have ended.
    """
    words = tuple(str(word) for word in argv)
    started = time.monotonic()
    try:
        with in_memory(stdin or "") as source:
            process = subprocess.Popen(
                words,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(env or {}),
                cwd=cwd,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches the program's children through `end`
            )
    except OSError as error:
        raise not_started(words[0], error, remedy) from error
    try:
        out, err = communicate(process, timeout_s)
    except subprocess.TimeoutExpired as error:
        kill_group(process.pid)
        process.communicate()
        raise TimedOut(f"`{shown(words)}` took longer than {timeout_s:.0f} s") from error
    except BaseException as error:
        end(process, grace_s(error))
        raise
    seconds = time.monotonic() - started
    completed = Completed(words, process.returncode, out, err, seconds)
    if log:
        append_log(log, completed)
    if check and process.returncode != 0:
        raise Failure(
            f"`{shown(words)}` ended with exit code {process.returncode}",
            evidence=last_lines(err or out),
            remedy=remedy,
        )
    return completed


def stream(
    argv: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    remedy: str = "",
    keep_group: bool = False,
) -> None:
    """Run a program and call `on_line` with each line of its output (both streams) at once.

    Raises Failure with the last lines when the exit code is not 0, and what a check of
    `watch.during` raises. After an exception, Ctrl-C included, and after kill -9 of this process,
    the program and everything that it started have ended. keep_group: do not end what the
    program started when it exits by itself.
    """
    words = tuple(str(word) for word in argv)
    tail: list[str] = []
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(env or {}),
            cwd=cwd,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the program once, through `end`
        )
    except OSError as error:
        raise not_started(words[0], error, remedy) from error
    try:
        with ending_with_us(process):
            for line in lines_of(process):
                tail = [*tail[-(LAST_LINES - 1) :], line.rstrip()]
                if log:
                    with log.open("a") as file:
                        file.write(f"{line}\n")
                on_line(line.rstrip())
            code = process.wait()
    except BaseException as error:
        end(process, grace_s(error))
        raise
    if not keep_group:
        kill_group(process.pid)
    if code != 0:
        raise Failure(
            f"`{shown(words)}` ended with exit code {code}",
            evidence=last_lines("\n".join(tail)),
            remedy=remedy,
        )


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: ours, with messages in English, and `more`."""
    return {**os.environ, **ENGLISH, **more}


def run_on_terminal(argv: Sequence[str | Path], *, cwd: Path | None = None) -> int:
    """Run a program that prints to our stdout and stderr itself; returns its exit code.

    After an exception, Ctrl-C included, the program and everything that it started have ended.
    """
    words = [str(word) for word in argv]
    process = subprocess.Popen(words, cwd=cwd, text=True, start_new_session=True)
    try:
        return process.wait()
    except BaseException:
        end(process)
        raise


def in_memory(text: str) -> IO[bytes]:
    """An open file with this text that is on no disk; `Popen.communicate` cannot resume a pipe."""
    file = open(os.memfd_create("stdin"), "w+b")  # noqa: PTH123, SIM115 - has no path
    file.write(text.encode())
    file.seek(0)
    return file


def communicate(process: subprocess.Popen[str], timeout_s: float | None) -> tuple[str, str]:
    """Wait for a program and return what it printed; calls the checks of `watch` meanwhile."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    while True:
        left_s = deadline - time.monotonic() if deadline is not None else watch.INTERVAL_S
        try:
            return process.communicate(timeout=max(0, min(watch.INTERVAL_S, left_s)))
        except subprocess.TimeoutExpired:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            watch.check()


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a program prints until it exits, even if a child keeps its output open.

    Calls the checks of `watch` meanwhile.
    """
    source = process.stdout.fileno() if process.stdout else -1
    utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    rest, data, ended = "", b"?", False
    while data and not ended:
        ended = process.poll() is not None
        watch.check()
        if select.select([source], [], [], 0 if ended else watch.INTERVAL_S)[0]:
            data = os.read(source, PIPE_BYTES)
            *lines, rest = (rest + decoder.decode(data)).split("\n")
            yield from lines
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest


def not_started(program: str, error: OSError, remedy: str) -> Failure:
    """The error to raise when a program could not be started."""
    if isinstance(error, FileNotFoundError):
        return Failure(
            f"{program} was not found on this host",
            remedy=remedy or "run `invoke doctor` to see what is missing",
        )
    return Failure(f"{program} could not be started: {error.strerror}")


@contextlib.contextmanager
def ending_with_us(process: subprocess.Popen[str]) -> Iterator[None]:
    """While the body runs, a kill -9 of this process also kills the program's process group.

    A second process reads from a pipe that only we hold open. PR_SET_PDEATHSIG (prctl(2)) would
    reach the program alone: Packer's QEMU would stay.
    """
    ours, guards = socket.socketpair()
    with ours, guards:
        guard = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", str(process.pid)],
            stdin=guards.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        guards.close()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                ours.sendall(b"done\n")
            guard.wait()


def grace_s(reason: BaseException) -> float:
    """How long a program may take to clean up after this exception."""
    return CHECKED_GRACE_S if isinstance(reason, Exception) else GRACE_S


def end(process: subprocess.Popen[str], grace_s: float = GRACE_S) -> None:
    """Send SIGINT to a program with its own session, then kill what is left of it."""
    try:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGINT)
            process.wait(grace_s)
    finally:  # a second Ctrl-C skips the wait
        kill_group(process.pid)
        process.wait()


def kill_group(leader: int) -> None:
    """Kill what is left of a program's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def shown(argv: Sequence[str]) -> str:
    """A command line, quoted for a shell and shortened to one or two lines of a screen."""
    text = shlex.join(argv)
    return text if len(text) <= 200 else f"{text[:160]} … ({len(argv)} words)"


def last_lines(text: str, count: int = LAST_LINES) -> str:
    """The last lines of a program's output, for an error's evidence; long lines are cut."""
    return "\n".join(line[:LINE_CHARS] for line in text.rstrip().splitlines()[-count:])


def append_log(log: Path, completed: Completed) -> None:
    with log.open("a") as file:
        file.write(f"$ {shlex.join(completed.argv)}\n{completed.stdout}{completed.stderr}")
        file.write(f"[exit {completed.returncode}, {completed.seconds:.1f} s]\n")
