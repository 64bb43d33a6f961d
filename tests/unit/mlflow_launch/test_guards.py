"""The guards: what counts as a private address, and that a module which differs is left alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mlflow_launch import mlflow_names
from mlflow_launch.guards import apply, artifacts, doors


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "10.0.0.1:8000", "192.168.1.1", "172.16.0.1:1", "[fd00::1]", "[fc00::1]:8000"],
)
def test_a_private_address_passes_with_and_without_a_port(host: str) -> None:
    assert doors.is_private_address(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "10.evil.example", "10.0.0.1.evil.example", "10.0.0.1:x", "10.1"),
        *("fd00::1", "[fd00::1", "fd00::1]", "[10.0.0.1]", "[fd00::1]:x", "[fd00::1]8000"),
        *("8.8.8.8", "172.32.0.1", "[2001:db8::1]", "10.0.0.1:\u0661", "010.0.0.1"),
    ],
)
def test_everything_else_does_not(host: str) -> None:
    assert not doors.is_private_address(host)


def test_a_module_that_differs_is_left_alone_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in apply.GUARDS:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    apply.to_imported()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(apply.GUARDS)  # also of users, as that module is there
    assert all("this MLflow differs: " in line for line in lines)
    assert any(f"has no {mlflow_names.HOST_CHECK}; clients are refused" in line for line in lines)


def test_a_file_without_a_known_length_has_lost_nothing(tmp_path: Path) -> None:
    assert artifacts.lost_bytes(tmp_path / "none") == 0
