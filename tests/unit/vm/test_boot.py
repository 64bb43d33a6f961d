"""Following a boot: it ends when the goal is reached, at a dead end, or when the time is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.vm import boot
from mlflow_image.vm.boot import Boot
from tests.unit.conftest import Served

CASES = Path(__file__).parent / "console_cases"
EXPERIMENT = boot.MLFLOW_PROBE


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "POLL_S", 0.01)
    monkeypatch.setattr(boot, "PROBE_GRACE_S", 0.03)


def booting(tmp_path: Path, case: str, alive: bool = True) -> Boot:
    (tmp_path / "console.log").write_bytes((CASES / f"{case}.log").read_bytes())
    return Boot(tmp_path, 0, lambda: alive)


def wait(under_way: Boot, port: int | None = None, timeout_s: float = 0.05) -> str:
    seen: list[str] = []
    reached = boot.mlflow_ready({8000: port}.get)
    return boot.follow(under_way, "the MLflow server", reached, seen.append, timeout_s)


def port_of(served: Served) -> int:
    return int(served.address.rpartition(":")[2])


def test_ready_is_what_the_guest_says_and_the_host_sees(tmp_path: Path, served: Served) -> None:
    served.files[EXPERIMENT] = b"{}"
    assert wait(booting(tmp_path, "ready"), port_of(served)) == "http://10.0.2.15:8000"
    assert served.asked == [EXPERIMENT]


def test_a_server_that_the_host_cannot_reach_is_not_ready(tmp_path: Path, served: Served) -> None:
    with pytest.raises(Failure, match="HTTP 404"):
        wait(booting(tmp_path, "ready"), port_of(served), timeout_s=5)


def test_refused_settings_end_the_wait_with_every_fault(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="settings") as failure:
        wait(booting(tmp_path, "refused"), timeout_s=60)
    assert "server.port" in failure.value.evidence
    assert "server.wokers" in failure.value.evidence


def test_a_panic_ends_the_wait_with_the_guests_lines(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="panicked") as failure:
        wait(booting(tmp_path, "panic"), timeout_s=60)
    assert "sysrq triggered crash" in failure.value.evidence


def test_a_qemu_that_ended_ends_the_wait(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="the VM ended"):
        wait(booting(tmp_path, "systemd-bios", alive=False), timeout_s=60)


def test_out_of_time_says_where_the_guest_was(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"did not come .* at systemd") as failure:
        wait(booting(tmp_path, "systemd-bios"))
    assert failure.value.evidence


def test_a_server_on_the_guests_loopback_is_not_probed(tmp_path: Path, served: Served) -> None:
    (tmp_path / "console.log").write_text("mlflow-ready http://127.0.0.1:8000\n")
    under_way = Boot(tmp_path, 0, lambda: True)
    url = wait(under_way, port_of(served))
    assert boot.is_guest_loopback(url)
    assert served.asked == []


def test_the_users_proxy_is_not_asked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    served.files["/"] = b""
    assert boot.probe(served.address + "/") == ""
