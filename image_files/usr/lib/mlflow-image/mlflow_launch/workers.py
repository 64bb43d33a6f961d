"""Forks the worker processes on one listening socket and keeps them alive until a signal."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_launch import notify, ready
from mlflow_launch.command import ServerCommand
from mlflow_launch.log import say
from mlflow_launch.stores import watch

# Requests in flight (uploads) may take this long after SIGTERM; uvicorn's default is no limit.
# The unit's TimeoutStopSec is longer.
GRACE_S = 30
# A thread inside a request cannot be cancelled, so its worker is killed after this time.
KILL_AFTER_S = 35
# The wait before a worker is replaced; it doubles with every failed start in a row.
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
# A worker that ends sooner counts as a failed start.
HEALTHY_S = 60
# After so many failed starts in a row the launcher ends, and systemd starts a new one.
MOST_FAILED_STARTS = 5
# MLflow writes uploads in these threads. Python's default is 4 and the number of processors, but a
# thread that waits for the disk needs none, and all that wait share one commit (guards/commit.py).
FILE_THREADS = 32
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1


def run(application: Any, command: ServerCommand, directory: Path) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    directory: of mlflow-configure's files.
    """
    path = os.environ.get(ready.SOCKET, "")
    listener = unix_socket(path) if path else listening_socket(command.host, command.port)
    # The collector never touches the objects that exist now, so their memory stays shared with the
    # workers. No collection before: it would take half a second natively, to free 5000 objects.
    gc.freeze()
    # Crew.run() waits for them with sigtimedwait, so that no handler interrupts other code.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    stores = watch.Stores.of(os.environ)
    look = (lambda: watch.look_again(stores)) if stores.kinds else None
    crew = Crew(lambda: _serve(application, command, listener), command.workers, look)

    def wait_until_ready() -> None:
        ready.wait(command.host, command.port)
        ready.ask_announced(directory)

    return crew.run(wait_until_ready)


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket that workers inherit. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit this option. Without it every answer on a kept connection waits
    # 40 ms for the client's delayed ACK: 19.5 instead of 131 log_batch/s.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(2048)
    return listener


def unix_socket(path: str) -> socket.socket:
    """A bound, listening socket for nginx alone: its folder belongs to nginx's group."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
    listener.bind(path)
    Path(path).chmod(0o660)
    listener.listen(2048)
    return listener


class Crew:
    """The worker processes, and the process that finds out whether they answer.

    look: looks at the stores from time to time, in a process of its own.
    """

    def __init__(
        self, work: Callable[[], None], size: int, look: Callable[[], None] | None = None
    ) -> None:
        self._work = work
        self._size = size
        self._look = look
        self._looker = 0
        self._look_at_s = time.monotonic() + watch.EVERY_S if look else math.inf
        self._born_s: dict[int, float] = {}
        self._failed_starts = 0
        self._start_at_s = 0.0

    def run(self, wait_until_ready: Callable[[], None]) -> int:
        """Keep `size` workers alive until a signal stops it; notify systemd once they answer.

        Returns the exit code: 0 after SIGTERM or SIGINT, 1 when workers do not stay alive.
        """
        for _ in range(self._size):
            self._start_worker()
        prober = _fork(wait_until_ready)
        while True:
            next_s = min(self._start_at_s if self._missing() else math.inf, self._look_at_s)
            timeout_s = min(3600.0, max(0.0, next_s - time.monotonic()))
            received = signal.sigtimedwait(_SIGNALS, timeout_s)
            if received and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                return self._stop(prober)
            for pid, status in _ended_children():
                if pid == prober:
                    prober = 0
                    if status == 0:
                        say("ready: a call through the database has succeeded")
                        notify.ready()
                elif pid == self._looker:
                    self._looker = 0
                elif pid in self._born_s:
                    self._worker_ended(pid, status)
            if self._failed_starts >= MOST_FAILED_STARTS:
                say(f"giving up: {self._failed_starts} workers in a row ended within {HEALTHY_S} s")
                self._stop(prober)
                return 1
            while self._missing() and time.monotonic() >= self._start_at_s:
                self._start_worker()
            self._look_when_due()

    def _look_when_due(self) -> None:
        if self._look is None or time.monotonic() < self._look_at_s:
            return
        self._look_at_s = time.monotonic() + watch.EVERY_S
        if not self._looker:  # else the last one still waits for a store
            self._looker = _fork(self._look)

    def _missing(self) -> int:
        return self._size - len(self._born_s)

    def _start_worker(self) -> None:
        self._born_s[_fork(self._work)] = time.monotonic()

    def _worker_ended(self, pid: int, status: int) -> None:
        lived_s = time.monotonic() - self._born_s.pop(pid)
        self._failed_starts = self._failed_starts + 1 if lived_s < HEALTHY_S else 0
        delay_s = min(FIRST_DELAY_S * 2.0 ** (self._failed_starts - 1), LONGEST_DELAY_S)
        self._start_at_s = time.monotonic() + delay_s
        code = os.waitstatus_to_exitcode(status)
        ended = f"worker {pid} ended with exit code {code} after {lived_s:.0f} s"
        say(f"{ended}; a new one starts in {delay_s:.1f} s")

    def _stop(self, prober: int) -> int:
        notify.stopping()
        for helper in filter(None, (prober, self._looker)):
            os.kill(helper, signal.SIGKILL)
        for pid in self._born_s:
            os.kill(pid, signal.SIGTERM)
        deadline_s = time.monotonic() + KILL_AFTER_S
        while self._born_s and time.monotonic() < deadline_s:
            signal.sigtimedwait({signal.SIGCHLD}, 0.5)
            for pid, _ in _ended_children():
                self._born_s.pop(pid, None)
        for pid in self._born_s:
            say(f"worker {pid} did not end within {KILL_AFTER_S} s and was killed")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return 0


def _serve(application: Any, command: ServerCommand, listener: socket.socket) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import uvicorn

    class Server(uvicorn.Server):
        async def serve(self, sockets: list[socket.socket] | None = None) -> None:
            threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")
            asyncio.get_running_loop().set_default_executor(threads)
            await super().serve(sockets)

    gc.enable()
    config = uvicorn.Config(
        application,
        host=command.host,
        port=command.port,
        log_config=command.log_config,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        timeout_graceful_shutdown=GRACE_S,
        # The client's address is nginx's to say: nobody else reaches its socket. None: as usual.
        forwarded_allow_ips="*" if listener.family == socket.AF_UNIX else None,
    )
    Server(config).run(sockets=[listener])


def _fork(work: Callable[[], None]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        # A killed launcher must not leave workers behind: they would hold the port.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended_children() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))
