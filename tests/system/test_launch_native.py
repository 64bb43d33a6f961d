"""The launcher with the locked MLflow, natively: it serves what a stock server would."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import requests

from mlflow_image.checks.bench import rate
from mlflow_image.server import local

HERE = Path(__file__).resolve().parent
#: Answers of every kind: JSON, errors, a page, a file, what Flask and what FastAPI serves.
CALLS = (
    "/health",
    "/version",
    "/",
    "/no-such-page",
    "/api/2.0/mlflow/experiments/get?experiment_id=0",
    "/api/2.0/mlflow/experiments/get?experiment_id=77",
    "/api/2.0/mlflow/experiments/get",
    "/ajax-api/2.0/mlflow-artifacts/artifacts?path=",
    "/api/2.0/mlflow-artifacts/artifacts/none",
    "/gateway/none/mlflow/invocations",
)
#: Headers whose values are others at every call or server; that they are there is compared.
DIFFERENT_EACH_TIME = {"date", "last-modified", "etag", "x-mlflow-gateway-duration-ms"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ours")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[str]:
    with local.ours(folder, 2) as url:
        yield url


@pytest.mark.budget(300)
def test_the_locked_mlflow_is_what_the_launcher_expects(ours: str, folder: Path) -> None:
    said = (folder / "server.log").read_text()
    assert "modules imported early" in said
    assert "comes from its own file" not in said
    assert "rehearsed the first calls" in said
    assert "not ready yet" not in said
    assert "threads run while" not in said
    assert "than expected" not in said
    assert "starting over" not in said


def test_no_connection_to_the_database_was_there_when_the_workers_were_forked(
    ours: str,
) -> None:
    (launcher,) = (
        process
        for process in psutil.Process().children()
        if any(word.endswith("/mlflow-launch") for word in process.cmdline())
    )
    assert launcher.children()
    held = [file.path for file in launcher.open_files()]
    assert not [path for path in held if "mlflow.db" in path]
    names = {path.read_text().strip() for path in Path(f"/proc/{launcher.pid}/task").glob("*/comm")}
    assert names <= {"python", "jemalloc_bg_thd"}  # the second is pyarrow's, and forks well
    assert len(launcher.threads()) == len(names)


@pytest.mark.budget(60)
def test_every_answer_is_that_of_a_stock_server(ours: str, tmp_path: Path) -> None:
    with local.stock(tmp_path, 1) as stock:
        for call in CALLS:
            expected, found = (requests.get(url + call, timeout=20) for url in (stock, ours))
            assert found.status_code == expected.status_code, call
            heads = [
                {n: v for n, v in answer.headers.items() if n not in DIFFERENT_EACH_TIME}
                for answer in (expected, found)
            ]
            assert heads[0] == heads[1], call
            assert set(found.headers) == set(expected.headers), call
            if "creation_time" not in expected.text:
                assert found.content == expected.content, call


@pytest.mark.budget(20)
def test_a_large_answer_of_flask_comes_whole(ours: str) -> None:
    made = [
        requests.post(
            f"{ours}/api/2.0/mlflow/experiments/create",
            json={"name": f"{number}", "tags": [{"key": "k", "value": "x" * 4000}]},
            timeout=20,
        ).json()["experiment_id"]
        for number in range(300)
    ]
    found = requests.post(
        f"{ours}/api/2.0/mlflow/experiments/search", json={"max_results": 1000}, timeout=20
    )
    assert len(found.content) > 1 << 20
    assert {one["experiment_id"] for one in found.json()["experiments"]} >= set(made)


@pytest.mark.budget(20)
def test_the_database_is_in_wal_mode_and_its_commits_reach_the_disk(
    ours: str, folder: Path
) -> None:
    rate.calls_a_second(ours, calls=5)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert database.execute("SELECT count(*) FROM metrics").fetchone()[0] >= 5


@pytest.mark.budget(180)
def test_the_workers_environment_is_that_of_a_stock_server() -> None:
    done = subprocess.run(
        [local.environment() / "bin" / "python", HERE.parent / "peers/launch_environment.py"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.full
@pytest.mark.budget(300)
@pytest.mark.verifies("job execution: the stock command, its runner and consumers (natively)")
def test_with_job_execution_the_stock_server_answers_and_its_consumers_run(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # servers of the other tests
    with local.ours(tmp_path, 1, job_execution=True) as url:
        assert requests.get(f"{url}/health", timeout=60).text == "OK"
        deadline = time.monotonic() + 120
        while not any("huey.bin.huey_consumer" in line for line in command_lines()):
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
            time.sleep(0.5)
        assert "starting the stock `mlflow server`" in (tmp_path / "server.log").read_text()
        started = set(psutil.Process().children(recursive=True)) - others
    assert len(started) > 5
    _, left = psutil.wait_procs(started, timeout=30)
    assert left == []


def command_lines() -> list[list[str]]:
    """Of every process below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found.append(process.cmdline())
    return found
