"""The client process: what it sees of our environment, and what becomes of a bad one."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.checks.smoke import client, process
from mlflow_image.checks.smoke.process import Patience, Phase, environment, run_phase
from mlflow_image.checks.smoke.protocol import PhaseOverError, Telling
from mlflow_image.errors import Failure

ORDER: dict[str, Any] = {"phase": "written", "resolve": {}, "anonymous": False}
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": "secret",
    "MLFLOW_TRACKING_TOKEN": "token",
}


def seen(inherited: dict[str, str], folder: Path, **order: Any) -> dict[str, str]:
    return environment(inherited, {**ORDER, **order}, folder, Patience(7, 7))


def test_credentials_and_tls_settings_reach_the_client(tmp_path: Path) -> None:
    found = seen({**SECRETS, "MLFLOW_TRACKING_INSECURE_TLS": "true", "PATH": "/bin"}, tmp_path)
    assert found.items() >= SECRETS.items()
    assert found["MLFLOW_TRACKING_INSECURE_TLS"] == "true"
    assert found["PATH"] == "/bin"


def test_variables_that_would_change_what_is_tested_do_not(tmp_path: Path) -> None:
    others = ["TRACKING_URI", "REGISTRY_URI", "RUN_ID", "EXPERIMENT_ID", "ENABLE_ASYNC_LOGGING"]
    found = seen({f"MLFLOW_{name}": "x" for name in others}, tmp_path)
    assert not [name for name in others if f"MLFLOW_{name}" in found]


def test_an_anonymous_client_gets_no_credentials(tmp_path: Path) -> None:
    found = seen({**SECRETS, "HOME": "/home/me"}, tmp_path, anonymous=True)
    assert not SECRETS.keys() & found.keys()
    assert found["HOME"] == str(tmp_path)


def test_a_certificate_named_relative_to_here_is_found_from_there(
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


def test_the_users_own_timeout_and_retries_win(tmp_path: Path) -> None:
    own = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "99", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
    assert seen(own, tmp_path).items() >= own.items()


def test_a_name_of_the_client_is_not_asked_of_a_proxy(tmp_path: Path) -> None:
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


def run_script(
    monkeypatch: pytest.MonkeyPatch, folder: Path, script: str, row_s: float = 20
) -> tuple[Phase, list[str]]:
    """Run a phase whose client is this Python text; returns what it told and the steps."""
    monkeypatch.setattr(process, "CLIENT", (sys.executable, "-c", script))
    phase, steps = Phase(), list[str]()
    run_phase(ORDER, folder, Patience(5, row_s), steps.append, phase)
    return phase, steps


def test_rows_steps_and_leftovers_are_handed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = {"phase": "written", "what": "x", "expected": "a", "found": "a", "ok": True}
    lines = [{"step": "x"}, {"row": {**row, "seconds": 0.1}}, {"left": "a file"}, {"end": True}]
    script = "".join(f"print({json.dumps(line)!r})\n" for line in lines)
    phase, steps = run_script(monkeypatch, tmp_path, script)
    assert phase.ok
    assert [r.what for r in phase.rows] == ["x"]
    assert phase.left == ["a file"]
    assert steps == ["written: x"]


def test_a_client_that_dies_is_a_difference_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = 'print(\'{"step": "the model"}\', flush=True); raise SystemExit("out of memory")'
    phase, _ = run_script(monkeypatch, tmp_path, script)
    assert not phase.ok
    assert (phase.rows[0].what, phase.rows[0].found) == (
        "the model",
        "the client died: out of memory",
    )


def test_a_client_that_says_nothing_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    started = time.monotonic()
    phase, _ = run_script(monkeypatch, tmp_path, script + "; time.sleep(60)", row_s=0.5)
    assert phase.rows[0].found == "nothing for 0.5 s"
    assert time.monotonic() - started < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_fatal_line_is_a_failure_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fatal = json.dumps({"fatal": {"what": "nobody there", "remedy": "knock again"}})
    with pytest.raises(Failure, match="nobody there") as failure:
        run_script(monkeypatch, tmp_path, f"print({fatal!r})")
    assert failure.value.remedy == "knock again"


def test_a_check_that_raises_is_told_as_a_row_and_ends_the_phase(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines: list[str] = []
    telling = Telling("read back", lines.append)

    def broken() -> tuple[str, str]:
        raise ValueError("a very\nbad answer")

    with pytest.raises(PhaseOverError):
        telling.check("tags", broken)
    row = json.loads(lines[-1])["row"]
    assert row["found"] == "ValueError: a very bad answer"
    assert not row["ok"]
