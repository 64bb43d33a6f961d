"""Following a boot: it ends when the goal is reached, at a dead end, or after the timeout."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.vm import boot
from mlflow_image.vm.boot import Boot

CASES = Path(__file__).parent / "console_cases"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "POLL_S", 0.01)


def booting(tmp_path: Path, case: str, alive: bool = True) -> Boot:
    (tmp_path / "console.log").write_bytes((CASES / f"{case}.log").read_bytes())
    return Boot(tmp_path, 0, lambda: alive)


def wait(current: Boot, goal: str = "never printed", timeout_s: float = 0.05) -> str:
    def reached(text: str) -> str | None:
        return goal if goal in text else None

    return boot.follow(current, "the goal", reached, lambda _: None, timeout_s)


def test_the_wait_ends_when_the_goal_is_reached(tmp_path: Path) -> None:
    assert wait(booting(tmp_path, "systemd-bios"), "systemd") == "systemd"


def test_a_panic_ends_the_wait_with_the_guests_lines(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="panicked") as failure:
        wait(booting(tmp_path, "panic"), timeout_s=60)
    assert "sysrq triggered crash" in failure.value.evidence


def test_the_wait_ends_when_qemu_ends(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="the VM ended"):
        wait(booting(tmp_path, "systemd-bios", alive=False), timeout_s=60)


def test_the_timeout_names_the_stage_of_the_boot(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"not ready within .* at systemd") as failure:
        wait(booting(tmp_path, "systemd-bios"))
    assert failure.value.evidence
