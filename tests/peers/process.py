"""Real servers as processes of a test: on loopback, in a folder, without root's rights."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Servers that refuse to run as root run as this user, which PostgreSQL's package makes.
USER = "postgres"
START_S = 60.0


def as_user(words: Sequence[object]) -> list[str]:
    """The command line, as USER when this is root."""
    prefix = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    return [*(prefix if os.geteuid() == 0 else []), *map(str, words)]


def give(*paths: Path) -> None:
    """Give files and folders to USER, and let it reach them."""
    if os.geteuid() != 0:
        return
    for path in paths:
        shutil.chown(path, USER, USER)
        for parent in path.parents:
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o001)


@contextmanager
def running(
    words: Sequence[object],
    port: int,
    log: Path,
    variables: Mapping[str, str] | None = None,
    start_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the body runs; it must listen on the port of 127.0.0.1."""
    with daemon(words, log, variables) as process:
        until(lambda: listens(port), process, log, start_s)
        yield process


@contextmanager
def daemon(
    words: Sequence[object], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the body runs, whatever it listens on."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(variables or {})},
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def until(
    holds: Callable[[], object],
    process: subprocess.Popen[bytes],
    log: Path,
    start_s: float = START_S,
) -> None:
    """Wait until a process is ready, by a question of the caller's; it must not end before."""
    deadline = time.monotonic() + start_s
    while not holds():
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)
