"""Detached programs: identified by pid and start time, and ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.host import processes
from mlflow_image.host.processes import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Process:
    return processes.start_detached(["sleep", "60"], cwd=tmp_path, stderr=tmp_path / "log")


def test_a_detached_program_has_its_own_session(sleeper: Process) -> None:
    assert processes.is_alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid
    processes.end(sleeper)


def test_an_ended_program_is_gone_and_leaves_no_zombie(sleeper: Process) -> None:
    processes.end(sleeper)
    assert not processes.is_alive(sleeper)
    assert not Path(f"/proc/{sleeper.pid}").exists()
    processes.end(sleeper)


def test_the_same_pid_with_another_start_time_is_another_process(sleeper: Process) -> None:
    other = Process(sleeper.pid, "another boot 1")
    assert not processes.is_alive(other)
    processes.end(other)
    assert processes.is_alive(sleeper)
    processes.end(sleeper)


def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    log = tmp_path / "log"
    stubborn = processes.start_detached(["sh", "-c", script], cwd=tmp_path, stderr=log)
    while "up" not in log.read_text():
        time.sleep(0.01)
    processes.end(stubborn, patience_s=0.1)
    assert not processes.is_alive(stubborn)


def test_the_programs_error_output_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = ["sh", "-c", "echo no such disk >&2; exit 1"]
    process = processes.start_detached(argv, cwd=tmp_path, stderr=log, dies_with_us=True)
    assert processes.wait_for_end(process, 5)
    assert log.read_text() == "no such disk\n"


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="qemu-system-none"):
        processes.start_detached(["qemu-system-none"], cwd=tmp_path, stderr=tmp_path / "log")
