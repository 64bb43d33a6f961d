"""The flags of the VM tasks: wrong numbers, sizes and choices are refused."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.errors import Refusal
from mlflow_image.server.user_data import UserData
from mlflow_image.tasks import vm


@pytest.mark.parametrize(
    ("text", "size"), [("20G", 20 << 30), ("512m", 512 << 20), ("1 TiB", 1 << 40), ("8GB", 8 << 30)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert vm.size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "20", "G", "-1G", "1.5G", "20X"])
def test_a_value_that_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="--disk"):
        vm.size_bytes(text)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", ""])
def test_a_value_that_is_not_a_port_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="--port"):
        vm.port_number(text)


def test_an_unknown_firmware_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match="coreboot") as refusal:
        vm.firmware_name("coreboot")
    assert "secureboot" in refusal.value.remedy


@pytest.fixture
def booting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`up` gets a VM that never finishes booting; the names of the VMs that were removed."""
    removed: list[str] = []
    monkeypatch.setattr(vm.find, "resolve", lambda *_: None)
    monkeypatch.setattr(vm, "read_data", lambda *_: UserData(b""))
    monkeypatch.setattr(vm.vms, "create", lambda *_: None)
    monkeypatch.setattr(vm.vms, "remove", removed.append)
    return removed


@pytest.mark.parametrize(
    ("number", "gone"), [(signal.SIGINT, ["x"]), (signal.SIGTERM, ["x"]), (signal.SIGHUP, [])]
)
def test_an_interrupted_up_removes_its_vm_but_a_closed_terminal_does_not(
    booting: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, gone: list[str]
) -> None:
    monkeypatch.setattr(vm, "follow", lambda *_: os.kill(os.getpid(), number) or time.sleep(10))
    with pytest.raises(Exit) as caught:
        vm.up(Context(), name="x")
    assert caught.value.code == 130
    assert booting == gone


def test_columns_are_aligned_and_never_cut() -> None:
    rows = [("name", "image"), ("a-long-name", "i" * 200)]
    assert list(vm.columns(rows)) == ["name         image", "a-long-name  " + "i" * 200]


def test_a_command_after_two_dashes_is_run_and_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    argv = ["invoke", "ssh", "--name", "b", "--", "sudo", "cat", "a file"]
    monkeypatch.setattr(vm.sys, "argv", argv)
    machine = SimpleNamespace(ssh_argv=lambda command: ["ssh", command])
    monkeypatch.setattr(vm, "running", lambda name: SimpleNamespace(machine=machine))
    monkeypatch.setattr(vm.os, "execvp", lambda program, words: ran.extend(words))
    vm.ssh_task(Context(), name="b")
    assert ran == ["ssh", "sudo cat 'a file'"]
    with pytest.raises(Exit):
        vm.ssh_task(Context(), name="b", command="ls")
