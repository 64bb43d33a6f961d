"""The smoke test against stock MLflow servers on this host: it passes, and finds every fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from mlflow_image import paths
from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.check import Options
from mlflow_image.checks.smoke.process import Timeouts
from mlflow_image.errors import Failure
from tests.standins.faulty_proxy import Fault, proxy
from tests.standins.native_server import NativeServer, running
from tests.system.conftest import heed_ctrl_c

SHORT = Options(timeouts=Timeouts(request_s=5, row_s=60))
ADMIN = ("admin", "a password of length")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeServer]:
    names = "localhost:*,127.0.0.1:*,mlflow.smoke.test:*"
    with running(tmp_path_factory.mktemp("server"), "--allowed-hosts", names) as it:
        yield it


@pytest.fixture(autouse=True)
def no_connection_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MLFLOW_TRACKING_") or name.startswith("MLFLOW_HTTP_"):
            monkeypatch.delenv(name)


def left_on(server: NativeServer) -> list[str]:
    """The smoke test's active experiments and models on a server, and all artifact files."""
    api = f"{server.url}/api/2.0/mlflow"
    found = requests.get(f"{api}/experiments/search?max_results=1000", timeout=30).json()
    names = [e["name"] for e in found["experiments"] if "smoke" in e["name"]]
    models = requests.get(f"{api}/registered-models/search", timeout=30).json()
    names += [model["name"] for model in models.get("registered_models", [])]
    return names + [str(path) for path in server.artifacts.rglob("*") if path.is_file()]


@pytest.mark.budget(240)  # The first run on a host creates the environment: 100 s.
def test_a_correct_server_passes_under_another_name_and_nothing_is_left_on_it(
    server: NativeServer,
) -> None:
    steps: list[str] = []
    report = check.check_server(
        f"http://{check.HOST_NAME}:{server.port}",
        Options(reboot=server.restart, resolve=check.LOOPBACK),
        steps.append,
    )
    assert report.ok, report.difference_text()
    phases = [row.phase for row in report.rows]
    assert list(dict.fromkeys(phases)) == [
        check.WRITTEN,
        check.READ,
        check.REBOOTED,
        check.DELETED,
    ]
    assert phases.count(check.REBOOTED) == phases.count(check.READ) + 1
    assert "rebooting" in steps
    assert left_on(server) == []
    assert report.left_behind == ()


@pytest.mark.full
def test_keep_leaves_everything_and_reports_its_names(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        report = check.check_server(server.url, Options(keep=True))
        assert report.ok, report.difference_text()
        there = left_on(server)
    assert any(name.endswith("noise.bin") for name in there)
    assert [name for name in there if not name.startswith("/")] == [
        report.left_behind[0].split()[1].rstrip(","),
        report.left_behind[0].split()[-1],
    ]


def changed_artifact(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    if method == "GET" and path.endswith("noise.bin"):
        body = body[:-1] + bytes([body[-1] ^ 1])
    return status, body


def shortened_artifact(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body[:-1] if method == "GET" and path.endswith("noise.bin") else body


def lost_point(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    if "metrics/get-history" in path and b"loss" in body:
        answer = json.loads(body)
        answer["metrics"] = [m for m in answer["metrics"] if m.get("step") != 7]
        body = json.dumps(answer).encode()
    return status, body


def changed_tag(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body.replace(b"two\\nlines", b"one line!!") if method == "GET" else body


def other_model_numbers(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    if method == "GET" and path.endswith("coefficients.json"):
        body = json.dumps([value + 1e-6 for value in json.loads(body)]).encode()
    return status, body


def unfinished_version(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    if method == "GET" and "registered-models/alias" in path:
        body = body.replace(b"READY", b"PENDING_REGISTRATION")
    return status, body


def error_at_batches(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return (500, b"broken on purpose") if path.endswith("runs/log-batch") else (status, body)


def error_at_every_request(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return 500, b"broken on purpose"


SLOW = pytest.mark.full
FAULTS = [
    pytest.param(changed_artifact, "read back: artifact, sha256", "found", id="a changed byte"),
    pytest.param(
        lost_point,
        "read back: metric loss: expected point step 7",
        "no point of step 7",
        id="a lost point",
    ),
    pytest.param(
        shortened_artifact,
        "read back: artifact, sha256",
        "found",
        id="a shortened file",
        marks=SLOW,
    ),
    pytest.param(
        changed_tag,
        "read back: tags: expected smoke.text",
        "one line!!",
        id="a changed tag",
        marks=SLOW,
    ),
    pytest.param(
        other_model_numbers,
        "read back: model, loaded by its alias",
        "found [",
        id="another model",
        marks=SLOW,
    ),
    pytest.param(
        unfinished_version,
        "read back: model version",
        "PENDING_REGISTRATION",
        id="an unfinished version",
        marks=SLOW,
    ),
    pytest.param(
        error_at_batches,
        "written: parameters: expected a response",
        "500",
        id="an error while writing",
        marks=SLOW,
    ),
    pytest.param(
        error_at_every_request,
        "written: the server answers from its database",
        "500: broken on purpose",
        id="errors only",
        marks=SLOW,
    ),
]


@pytest.mark.parametrize(("fault", "where", "found"), FAULTS)
def test_a_changed_response_is_the_first_difference(
    server: NativeServer, fault: Fault, where: str, found: str
) -> None:
    with proxy(server.port, fault) as port:
        report = check.check_server(f"http://127.0.0.1:{port}", SHORT)
    assert not report.ok
    assert report.difference_text().startswith(where)
    assert found in report.difference_text()
    if fault is not error_at_every_request:  # Nothing can be deleted through that proxy.
        assert left_on(server) == []


def hanging(release: threading.Event, at: str) -> Fault:
    def fault(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.endswith(at):
            release.wait(120)
        return status, body

    return fault


@pytest.mark.parametrize(
    ("timeouts", "found"),
    [
        pytest.param(Timeouts(3, 60), "timeout", id="a request without a response"),
        pytest.param(
            Timeouts(60, 4), "no response within 4 s", id="a row without an end", marks=SLOW
        ),
    ],
)
def test_a_hanging_server_is_reported_in_time(
    server: NativeServer, timeouts: Timeouts, found: str
) -> None:
    release = threading.Event()
    with proxy(server.port, hanging(release, "registered-models/create")) as port:
        report = check.check_server(f"http://127.0.0.1:{port}", Options(timeouts=timeouts))
        release.set()
    assert report.difference_text().startswith("written: model: expected a response")
    assert found in report.difference_text()


def forget_database(server: NativeServer) -> None:
    server.stop()
    for file in server.folder.glob("mlflow.db*"):
        file.unlink()
    server.start()


def forget_artifacts(server: NativeServer) -> None:
    server.stop()
    for file in server.artifacts.rglob("noise.bin"):
        file.unlink()
    server.start()


@pytest.mark.full
@pytest.mark.parametrize(
    ("forget", "where"),
    [
        (forget_database, "after the reboot: run, found by its tag: expected experiment"),
        (forget_artifacts, "after the reboot: artifact, listed: expected data/noise.bin"),
    ],
)
def test_what_a_reboot_loses_is_the_first_difference(
    tmp_path: Path, forget: Callable[[NativeServer], None], where: str
) -> None:
    with running(tmp_path) as server:
        report = check.check_server(server.url, Options(reboot=lambda: forget(server), keep=True))
    assert report.difference_text().startswith(where)


def test_a_name_that_the_server_does_not_allow_is_reported_with_a_remedy(
    server: NativeServer,
) -> None:
    with pytest.raises(Failure, match="rejects this host name") as failure:
        check.check_server(
            f"http://other.smoke.test:{server.port}",
            Options(resolve={"other.smoke.test": "127.0.0.1"}),
        )
    assert "allowed_hosts" in failure.value.remedy


def test_a_web_server_that_is_not_mlflow_is_reported() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with pytest.raises(Failure, match=r"is not an MLflow server \(status 404\)"):
            check.check_server(f"http://127.0.0.1:{web.server_port}", SHORT)
        web.shutdown()


@pytest.mark.full
def test_credentials_come_from_mlflows_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
    }
    with running(tmp_path, "--app-name", "basic-auth", **variables) as server:
        with pytest.raises(Failure, match="requires credentials") as failure:
            check.check_server(server.url)
        assert "MLFLOW_TRACKING_USERNAME" in failure.value.remedy
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
        report = check.check_server(server.url)
    assert report.ok, report.difference_text()
    assert ADMIN[1] not in json.dumps(report.document())


def test_ctrl_c_deletes_what_was_written_and_leaves_no_files_on_the_host(
    server: NativeServer, tmp_path: Path
) -> None:
    home, work, scratch = (tmp_path / name for name in ("home", "work", "tmp"))
    for folder in (home, work, scratch):
        folder.mkdir()
    release = threading.Event()
    script = (
        "import sys; from mlflow_image.checks.smoke import check\n"
        "check.check_server(sys.argv[1], on_step=lambda step: print(step, flush=True))"
    )
    with proxy(server.port, hanging(release, "registered-models/create")) as port:
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"http://127.0.0.1:{port}"],
            cwd=work,
            env={
                **os.environ,
                "HOME": str(home),
                "TMPDIR": str(scratch),
                "PYTHONPATH": str(paths.HERE.root),
            },
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=heed_ctrl_c,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "written: model":
                break
        threading.Timer(2, process.send_signal, [signal.SIGINT]).start()
        rest = process.stdout.read()
        release.set()
        assert process.wait(timeout=60) != 0
    assert "deleted: experiment" in rest
    assert left_on(server) == []
    assert [path for folder in (home, work, scratch) for path in folder.rglob("*")] == []
