"""A server is ready if the guest reports it and the host sees it; excerpts in ready_cases/."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.server import ready
from mlflow_image.vm import boot, console
from mlflow_image.vm.boot import Boot
from mlflow_settings import signals
from tests.unit.conftest import Served

CASES = Path(__file__).parent / "ready_cases"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "POLL_S", 0.01)
    monkeypatch.setattr(ready, "PROBE_GRACE_S", 0.03)


def text_of(name: str) -> str:
    return console.clean((CASES / f"{name}.log").read_text(errors="replace"))


def booting(tmp_path: Path, text: str) -> Boot:
    (tmp_path / "console.log").write_text(text)
    return Boot(tmp_path, 0, lambda: True)


def wait(current: Boot, port: int | None = None, timeout_s: float = 5) -> str:
    reached = ready.mlflow_ready({8000: port}.get)
    return boot.follow(current, "the MLflow server", reached, lambda _: None, timeout_s)


def port_of(served: Served) -> int:
    return int(served.address.rpartition(":")[2])


def test_a_server_is_ready_if_the_guest_reports_it_and_the_host_sees_it(
    tmp_path: Path, served: Served
) -> None:
    served.files[ready.MLFLOW_PROBE] = b"{}"
    assert wait(booting(tmp_path, text_of("ready")), port_of(served)) == "http://10.0.2.15:8000"
    assert served.asked == [ready.MLFLOW_PROBE]


def test_a_server_that_the_host_cannot_reach_is_not_ready(tmp_path: Path, served: Served) -> None:
    with pytest.raises(Failure, match="answers HTTP 404"):
        wait(booting(tmp_path, text_of("ready")), port_of(served))


def test_a_server_on_the_guests_loopback_is_not_probed(tmp_path: Path, served: Served) -> None:
    line = signals.ready_line("http://127.0.0.1:8000")
    assert ready.is_guest_loopback(wait(booting(tmp_path, f"{line}\n"), port_of(served)))
    assert served.asked == []


def test_refused_settings_end_the_wait_with_every_fault(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="refused its settings") as failure:
        wait(booting(tmp_path, text_of("refused")), timeout_s=60)
    assert "server.port" in failure.value.evidence
    assert "server.wokers" in failure.value.evidence


def test_the_report_is_found_after_the_prefix_of_the_journal() -> None:
    assert signals.ready_url(text_of("ready")) == "http://10.0.2.15:8000"
    assert signals.refused_settings(text_of("refused"))[0].startswith(
        "settings.yaml:3: server.port"
    )


def test_refused_settings_do_not_end_the_wait_while_good_ones_are_in_force() -> None:
    assert "1 fault" in text_of("stayed")
    assert signals.refused_settings(text_of("stayed")) == []


def test_the_last_stage_is_mlflow() -> None:
    assert console.stage(text_of("ready"), ready.STAGES) == "MLflow"


def test_the_users_proxy_is_not_used(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    served.files["/"] = b""
    assert ready.probe(served.address + "/") == ""
