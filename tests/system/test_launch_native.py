"""The launcher, natively: it answers like a stock server, and serves other releases of MLflow."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests

from mlflow_image.checks.bench import rate
from mlflow_image.server import local
from mlflow_settings.blocks.server import Server
from mlflow_settings.settings import Settings

HERE = Path(__file__).resolve().parent
#: Releases before the locked one, what the launcher logs (it knows the first of them), and what
#: they need instead of the locked packages.
OLDER = {
    "3.15.2": ("rehearsed the first calls", ["mlflow-tracing==3.15.2"]),
    "3.10.1": (
        "differs: it starts its server with `python -m uvicorn --host --port --workers ",
        ["mlflow-tracing==3.10.1"],
    ),
    "2.22.5": (
        "differs: there is no module mlflow.server.fastapi_app; starting the stock",
        ["sqlalchemy<2.1", "protobuf<7", "markdown"],
    ),
}
#: Answers of every kind: JSON, errors, a page, a file, from Flask and from FastAPI.
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
#: Headers whose values differ between calls or servers; only their presence is compared.
DIFFERENT_EACH_TIME = {"date", "last-modified", "etag", "x-mlflow-gateway-duration-ms"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ours")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[str]:
    with local.ours(folder, 2) as url:
        yield url


@pytest.mark.budget(300)
def test_the_launcher_knows_the_locked_mlflow(ours: str, folder: Path) -> None:
    log = (folder / "server.log").read_text()
    assert "modules imported early" in log
    assert "from its own file" not in log
    assert "rehearsed the first calls" in log
    assert "not ready yet" not in log
    assert "threads run while" not in log
    assert "this MLflow" not in log
    assert "starting over" not in log


def test_the_database_had_no_connection_when_the_workers_were_forked(ours: str) -> None:
    (launcher,) = local.launchers()
    assert launcher.children()
    held = [file.path for file in launcher.open_files()]
    assert not [path for path in held if "mlflow.db" in path]
    names = {path.read_text().strip() for path in Path(f"/proc/{launcher.pid}/task").glob("*/comm")}
    assert names <= {"python", "jemalloc_bg_thd"}  # the second is pyarrow's, and survives a fork
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
def test_a_large_answer_of_flask_is_complete(ours: str) -> None:
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


@pytest.mark.budget(60)
def test_a_real_mlflow_whose_private_name_changed_is_served_by_its_stock_command(
    tmp_path: Path,
) -> None:
    python, site = overlay(tmp_path)
    shutil.copytree(package("mlflow"), site / "mlflow", copy_function=linked)
    server = site / "mlflow/server/__init__.py"
    altered = server.read_text().replace("_exec_cmd(", "_start_process(")
    name = "import _exec_cmd"
    assert name in altered
    server.unlink()
    server.write_text(altered.replace(name, f"{name} as _start_process"))
    with launched(python, tmp_path) as (_, log):
        assert "differs: mlflow.server has no _exec_cmd; starting the stock" in log()


@pytest.mark.budget(60)
@pytest.mark.parametrize("version", OLDER)
def test_an_older_mlflow_is_served(version: str, tmp_path: Path) -> None:
    logged, more = OLDER[version]
    python, site = overlay(tmp_path)
    names = [f"mlflow=={version}", f"mlflow-skinny=={version}", *more]
    pip = [str(local.environment() / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-compile", "--target", str(site), *names], check=True)
    with launched(python, tmp_path) as (url, log):
        assert requests.get(f"{url}/version", timeout=20).text == version
        assert logged in log()


def overlay(folder: Path) -> tuple[Path, Path]:
    """An environment over the locked one: its Python, and the folder that is searched first."""
    place = folder / "environment"
    locked = local.environment() / "bin" / "python"
    subprocess.run([locked, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python3*/site-packages")
    (site / "locked.pth").write_text(f"{package('mlflow').parent}\n")
    return place / "bin" / "python", site


def package(name: str) -> Path:
    """The folder of a package of the locked environment."""
    (found,) = local.environment().glob(f"lib/python3*/site-packages/{name}")
    return found


def linked(source: str, target: str) -> None:
    """A hard link, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def launched(python: Path, folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """The launcher on a new database, with the preload list of the locked MLflow.

    Yields the URL, once the probe succeeds, and a function that reads the log.
    """
    port = local.free_port()
    local.configure(folder, Settings(server=Server(host="127.0.0.1", port=port, workers=1)))
    shutil.copyfile(local.launch_files() / "preload.txt", folder / "preload.txt")
    words = [str(python), "-I", str(local.LIBRARY / "mlflow-launch")]
    places = {
        "MLFLOW_IMAGE_RUN": str(folder),
        "MLFLOW_IMAGE_PRELOAD": str(folder / "preload.txt"),
    }
    with local.serving(words, folder, places, port) as url:
        yield url, (folder / "server.log").read_text


def refused_start(folder: Path, change: str) -> tuple[int, str]:
    """Start the launcher on a changed new database; returns its exit code and its reason."""
    share = local.launch_files()
    shutil.copyfile(share / "empty.sqlite", folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.executescript(change)
    local.configure(folder, Settings(server=Server(port=local.free_port())))
    places = {
        "MLFLOW_IMAGE_RUN": str(folder),
        "MLFLOW_IMAGE_PRELOAD": str(share / "preload.txt"),
        "RUNTIME_DIRECTORY": str(folder),
    }
    python, program = local.environment() / "bin" / "python", local.LIBRARY / "mlflow-launch"
    done = subprocess.run(
        [python, "-I", program],
        env={**os.environ, **places},
        cwd=folder,
        check=False,
        capture_output=True,
        timeout=90,
    )
    return done.returncode, (folder / "reason").read_text()


@pytest.mark.budget(60)
def test_a_database_of_an_older_mlflow_is_refused_with_the_command_to_upgrade_it(
    tmp_path: Path,
) -> None:
    older = "UPDATE alembic_version SET version_num = '7f2a7d5fae7d'"
    code, reason = refused_start(tmp_path, older)
    assert code == 78
    assert "has the schema 7f2a7d5fae7d of an older MLflow, and MLflow 3." in reason
    assert "`sudo mlflow-admin db upgrade`" in reason


@pytest.mark.budget(60)
def test_a_database_of_a_newer_mlflow_is_refused_without_touching_it(tmp_path: Path) -> None:
    newer = "UPDATE alembic_version SET version_num = 'ffffffffffff'"
    code, reason = refused_start(tmp_path, newer)
    assert code == 78
    assert "a newer MLflow has written it" in reason
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == ("ffffffffffff",)


@pytest.mark.budget(60)
def test_the_reason_why_mlflow_does_not_start_is_left_for_the_console(tmp_path: Path) -> None:
    # The Default experiment deleted, garbage-collected and made again under another id.
    again = (
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage, workspace) "
        "VALUES (7, 'Default', 'active', 'default')"
    )
    code, reason = refused_start(tmp_path, again)
    assert code == 1
    assert "UNIQUE constraint failed" in reason
    assert "INSERT" not in reason


@pytest.mark.full
@pytest.mark.budget(300)
@pytest.mark.verifies("job execution: the stock command, its runner and consumers (natively)")
def test_with_job_execution_the_stock_server_answers_and_its_consumers_run(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # the servers of other tests
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
    """The command line of every process below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found.append(process.cmdline())
    return found
