"""A machine's directory and state, and throwaway machines; QEMU does not run here."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import paths
from mlflow_image.errors import Failure, Refusal, Refusals
from mlflow_image.host import processes
from mlflow_image.host.processes import Process
from mlflow_image.vm import machine, monitor, qemu, seed, state, throwaway
from mlflow_image.vm.qemu import Spec
from mlflow_image.vm.state import State


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    # Other tests run these programs; here they would take 0.1 s for each machine.
    monkeypatch.setattr(qemu, "check_disk", lambda *_: None)
    monkeypatch.setattr(seed, "write_iso", lambda *_: None)
    disk = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    return Spec(disk, memory_mib=512, forwards={8000: 0})


@pytest.fixture
def no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU fails to start and prints an error."""

    def fail(*_: object, stderr: Path, **__: object) -> Process:
        stderr.write_text("qemu: no such machine\n")
        return Process(2**22 + 1, "never 0")

    monkeypatch.setattr(processes, "start_detached", fail)


def test_a_machines_directory_is_private(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"#cloud-config\n")
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert made.key_path.is_file()
    assert not made.running


def test_a_saved_machine_is_loaded_unchanged(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"")
    made.state = State(Process(os.getpid(), processes.start_time(os.getpid()) or ""), {22: 1}, 7)
    made.save()
    found = machine.load(tmp_path / "vm")
    assert (found.spec, found.state) == (made.spec, made.state)
    assert found.running
    assert found.ssh_port == 1


def test_a_refused_machine_leaves_no_directory(spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(Refusals):
        machine.create(tmp_path / "vm", replace(spec, memory_mib=10**8), b"")
    assert not (tmp_path / "vm").exists()


def test_a_directory_without_a_machine_is_refused(tmp_path: Path) -> None:
    (tmp_path / state.STATE_NAME).write_text("{}")
    with pytest.raises(Failure, match="there is no VM in"):
        machine.load(tmp_path)


@pytest.mark.usefixtures("no_qemu")
def test_a_qemu_that_does_not_start_is_reported_with_its_output(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"")
    with pytest.raises(Failure, match="did not start") as failure:
        made.start()
    assert "no such machine" in failure.value.evidence


@pytest.mark.usefixtures("no_qemu")
def test_a_throwaway_machine_leaves_only_its_logs(spec: Spec, tmp_path: Path) -> None:
    with (
        pytest.raises(Failure, match="did not start"),
        throwaway.booted(spec, b"", logs=tmp_path / "logs"),
    ):
        raise AssertionError("the machine must not boot")
    assert list((paths.cache() / "machines").iterdir()) == []
    assert (tmp_path / "logs" / "qemu.log").read_text() == "qemu: no such machine\n"


def test_a_running_machine_is_not_started_again(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"")
    made.state = State(Process(os.getpid(), processes.start_time(os.getpid()) or ""))
    with pytest.raises(Refusal, match="is already running"):
        made.start()


def test_a_port_of_the_host_is_redirected_to_another_port_of_the_guest(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine.create(tmp_path / "vm", replace(spec, forwards={8000: 5000}), b"")
    made.state = State(ports={22: 1, 8000: 5000})
    lines: list[str] = []
    monkeypatch.setattr(monitor, "human", lambda _, line: lines.append(line) or "")
    made.redirect(8000, 9000)
    assert lines == [
        "hostfwd_remove net tcp:127.0.0.1:5000",
        "hostfwd_add net tcp:127.0.0.1:5000-:9000",
    ]
    found = machine.load(tmp_path / "vm")
    assert (found.spec.forwards, found.forwarded) == ({9000: 5000}, {22: 1, 9000: 5000})
    monkeypatch.setattr(monitor, "human", lambda *_: "could not set up host forwarding rule")
    with pytest.raises(Failure, match="port 5000 could not be forwarded to port 8600"):
        made.redirect(9000, 8600)


def test_a_missing_image_is_named(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"")
    spec.backing.unlink()
    with pytest.raises(Failure, match=str(spec.backing)):
        made.start()


def test_ending_a_stopped_machine_does_nothing(spec: Spec, tmp_path: Path) -> None:
    made = machine.create(tmp_path / "vm", spec, b"")
    made.kill()
    assert made.power_off()


def test_a_socket_in_a_deep_directory_gets_a_short_path(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with monitor.short_path(deep, "qmp.sock") as name:
        assert len(name) < 108
        Path(name).write_text("reached")
    assert (deep / "qmp.sock").read_text() == "reached"


def test_a_missing_monitor_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="did not answer"):
        monitor.execute(tmp_path, "query-status")
