"""The client process: its environment, and what happens when it fails."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.checks.client_process import environment
from mlflow_image.checks.smoke import client
from mlflow_image.checks.smoke.process import PhaseResult, Timeouts, run_phase
from mlflow_image.checks.smoke.protocol import Job, PhaseStoppedError, Reporter
from mlflow_image.errors import Failure

JOB = Job("written", "write", "http://server:5000", "a-token", 1_700_000_000_000)
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "secret",
    "MLFLOW_TRACKING_TOKEN": "token",
}


def seen(inherited: dict[str, str], folder: Path, **changes: Any) -> dict[str, str]:
    """The environment of a client."""
    return environment(inherited, folder, 7, **changes)


def test_credentials_and_tls_settings_reach_the_client(tmp_path: Path) -> None:
    found = seen({**SECRETS, "MLFLOW_TRACKING_INSECURE_TLS": "true", "PATH": "/bin"}, tmp_path)
    assert found.items() >= SECRETS.items()
    assert found["MLFLOW_TRACKING_INSECURE_TLS"] == "true"
    assert found["PATH"] == "/bin"


def test_variables_that_would_change_what_is_tested_do_not_reach_it(tmp_path: Path) -> None:
    others = ["TRACKING_URI", "REGISTRY_URI", "RUN_ID", "EXPERIMENT_ID", "ENABLE_ASYNC_LOGGING"]
    found = seen({f"MLFLOW_{name}": "x" for name in others}, tmp_path)
    assert not [name for name in others if f"MLFLOW_{name}" in found]


def test_an_anonymous_client_gets_no_credentials(tmp_path: Path) -> None:
    found = seen({**SECRETS, "HOME": "/home/me"}, tmp_path, anonymous=True)
    assert not SECRETS.keys() & found.keys()
    assert found["HOME"] == str(tmp_path)


def test_a_relative_path_of_a_certificate_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = seen({"MLFLOW_TRACKING_SERVER_CERT_PATH": "ca.pem"}, tmp_path)
    assert found["MLFLOW_TRACKING_SERVER_CERT_PATH"] == str(tmp_path / "ca.pem")


def test_there_is_no_telemetry_and_no_retry(tmp_path: Path) -> None:
    found = seen({}, tmp_path)
    assert found["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert found["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert found["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


def test_the_users_own_timeout_and_retries_take_precedence(tmp_path: Path) -> None:
    own = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "99", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
    assert seen(own, tmp_path).items() >= own.items()


def test_a_name_that_only_the_client_resolves_bypasses_the_proxy(tmp_path: Path) -> None:
    found = seen({"no_proxy": "intranet"}, tmp_path, resolve={"mlflow.smoke.test": "127.0.0.1"})
    assert found["no_proxy"] == "intranet,mlflow.smoke.test"
    assert found["NO_PROXY"] == "mlflow.smoke.test"


def test_only_the_given_names_resolve_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    client.patch_resolver({"mlflow.smoke.test": "127.0.0.1"})
    socket.getaddrinfo("mlflow.smoke.test", 80)
    socket.getaddrinfo("elsewhere", 80)
    assert asked == ["127.0.0.1", "elsewhere"]


def run_script(folder: Path, row_s: float = 20) -> tuple[PhaseResult, list[str]]:
    """Run a phase with the program in use; returns its result and its steps."""
    result, steps = PhaseResult(), list[str]()
    run_phase(JOB, folder, Timeouts(5, row_s), steps.append, result)
    return result, steps


def test_rows_steps_and_leftovers_are_collected(
    use_program: Callable[[str], None], tmp_path: Path
) -> None:
    lines: list[str] = []
    reporter = Reporter("written", lines.append)
    reporter.compare("x", lambda: ("a", "a"))
    reporter.left_behind("a file")
    reporter.event(end=True)
    use_program(f"print({''.join(lines)!r})")
    result, steps = run_script(tmp_path)
    assert result.ok
    assert [row.what for row in result.rows] == ["x"]
    assert result.left_behind == ["a file"]
    assert steps == ["written: x"]


def test_the_client_reads_the_job_that_was_given(
    use_program: Callable[[str], None], tmp_path: Path
) -> None:
    use_program(f"import sys; open({str(tmp_path / 'job')!r}, 'w').write(sys.stdin.read())")
    run_script(tmp_path)
    assert Job.from_json((tmp_path / "job").read_text()) == JOB


def test_a_client_that_dies_is_a_difference_with_its_last_line(
    use_program: Callable[[str], None], tmp_path: Path
) -> None:
    use_program('print(\'{"step": "the model"}\', flush=True); raise SystemExit("out of memory")')
    result, _ = run_script(tmp_path)
    assert not result.ok
    assert (result.rows[0].what, result.rows[0].found) == (
        "the model",
        "the client process died: out of memory",
    )


def test_a_client_that_reports_nothing_is_killed(
    use_program: Callable[[str], None], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    use_program(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    started = time.monotonic()
    result, _ = run_script(tmp_path, row_s=0.5)
    assert result.rows[0].found == "no response within 0.5 s"
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_fatal_event_is_a_failure_with_its_remedy(
    use_program: Callable[[str], None], tmp_path: Path
) -> None:
    lines: list[str] = []
    assert isinstance(Reporter("written", lines.append).fatal("no server", "try later"), Exception)
    use_program(f"print({''.join(lines)!r})")
    with pytest.raises(Failure, match="no server") as failure:
        run_script(tmp_path)
    assert failure.value.remedy == "try later"


def test_an_exception_becomes_a_row_and_stops_the_phase(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines: list[str] = []

    def broken() -> tuple[str, str]:
        raise ValueError("a very\nbad answer")

    with pytest.raises(PhaseStoppedError):
        Reporter("read back", lines.append).compare("tags", broken)
    row = json.loads(lines[-1])["row"]
    assert row["found"] == "ValueError: a very bad answer"
    assert not row["ok"]
