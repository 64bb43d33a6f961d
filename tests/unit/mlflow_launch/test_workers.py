"""Workers: replaced when they end, none left behind, one listening socket for all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from mlflow_launch import notify, workers

LIBRARY = Path(__file__).parents[3] / "image_files/usr/lib/mlflow-image"
CREW = """
    import os, signal, sys, time
    sys.path.insert(0, {library!r})
    from mlflow_launch import workers
    workers.KILL_AFTER_S, workers.FIRST_DELAY_S = 0.3, 0.01
    signal.pthread_sigmask(signal.SIG_BLOCK, workers._SIGNALS)
    def work():
        {work}
    sys.exit(workers.Crew(work, 2).run(lambda: None))
"""


def crew(work: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(CREW).format(library=str(LIBRARY), work=work)
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)


def children(process: subprocess.Popen[str]) -> set[int]:
    return {child.pid for child in psutil.Process(process.pid).children()}


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_dead_worker_is_replaced_and_all_end_with_the_launcher() -> None:
    process = crew("time.sleep(60)")
    wait_for(lambda: len(children(process)) == 2)
    first = children(process)
    os.kill(min(first), signal.SIGKILL)
    wait_for(lambda: len(children(process)) == 2 and children(process) != first)
    last = children(process)
    process.terminate()
    _, logged = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "ended with exit code -9" in logged
    assert not any(psutil.pid_exists(pid) for pid in last)


def test_the_launcher_ends_when_no_worker_stays_alive() -> None:
    process = crew("sys.exit(4)")
    _, logged = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "giving up: 5 workers in a row" in logged or "giving up: 6 workers in a row" in logged


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    process = crew("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    wait_for(lambda: len(children(process)) == 2)
    time.sleep(0.2)
    pids = children(process)
    process.terminate()
    _, logged = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "killed" in logged
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_killed_launcher_leaves_no_worker_behind() -> None:
    process = crew("time.sleep(60)")
    wait_for(lambda: len(children(process)) == 2)
    time.sleep(0.2)
    pids = children(process)
    process.kill()
    process.communicate(timeout=10)
    wait_for(
        lambda: (
            not any(
                psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
                for pid in pids
            )
        )
    )


def test_answers_are_not_delayed_on_accepted_connections() -> None:
    listener = workers.listening_socket("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_an_error() -> None:
    with workers.listening_socket("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        workers.listening_socket("127.0.0.1", first.getsockname()[1])


def test_systemd_is_notified_through_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("notify")
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "notify")
        notify.ready()
        assert listening.recv(100) == b"READY=1\nSTATUS=serving"


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()
