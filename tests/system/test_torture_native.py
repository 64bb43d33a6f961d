"""`invoke torture` against a real server, natively: what it counts, and what it finds."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.checks.torture import record, run
from mlflow_image.checks.torture.record import ACKNOWLEDGED, SENT, Call, Record
from mlflow_image.checks.torture.report import Report
from mlflow_image.errors import Failure
from mlflow_image.server import local

from .conftest import Tasks

SECONDS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torture")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with local.ours(folder, 1) as url:
        yield url


@pytest.fixture(scope="module")
def calls(folder: Path, url: str) -> Path:
    """The calls of one test."""
    return folder / "calls.jsonl"


@pytest.fixture(scope="module")
def report(url: str, calls: Path) -> Report:
    return run.torture(url, SECONDS, 4, calls, lambda _: None)


def calls_of(path: Path, kind: str) -> list[Call]:
    return [one.call for one in record.read(path) if one.call.kind == kind]


@pytest.mark.budget(120)
def test_a_sound_server_loses_nothing(report: Report) -> None:
    assert (report.findings, report.refusals) == ([], {})
    rows = report.rows()
    assert all(row[ACKNOWLEDGED] > 0 for row in rows.values()), rows


@pytest.fixture
def broken(folder: Path, report: Report, calls: Path) -> Callable[[str], None]:
    """Changes the server's database, as a loss would."""

    def change(statement: str) -> None:
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            assert database.execute(statement).rowcount > 0, statement

    return change


@pytest.mark.budget(60)
def test_each_kind_of_loss_is_found(
    broken: Callable[[str], None], folder: Path, url: str, calls: Path
) -> None:
    artifact, other = calls_of(calls, "artifact")[:2]
    files = {file.name: file for file in (folder / "artifacts").rglob("*.bin")}
    files[f"{artifact.number}.bin"].unlink()
    files[f"{other.number}.bin"].write_bytes(b"cut")
    batch = calls_of(calls, "batch")[0]
    broken(f"DELETE FROM params WHERE key = 'p{batch.number}.1'")  # noqa: S608 our own numbers
    tag = calls_of(calls, "tag")[0]
    broken(f"DELETE FROM tags WHERE key = 'tag{tag.number}'")  # noqa: S608
    metric = calls_of(calls, "metric")[0]
    broken(f"UPDATE latest_metrics SET value = 9e9 WHERE key = 'm{metric.number}'")  # noqa: S608
    name, _, version = calls_of(calls, "version")[0].value.rpartition("/")
    broken(f"DELETE FROM model_versions WHERE name='{name}' AND version={version}")  # noqa: S608
    found = run.check(url, calls, lambda _: None)
    faults = {(one["kind"], one["fault"]) for one in found.findings}
    assert faults == {
        ("artifact", "lost"),
        ("batch", "half there"),
        ("tag", "lost"),
        ("metric", "half there"),
        ("version", "lost"),
    }
    assert len(found.findings) == 6


@pytest.mark.budget(60)
def test_what_was_not_acknowledged_may_be_absent_but_not_in_part(
    report: Report, folder: Path, url: str, tmp_path: Path, calls: Path
) -> None:
    (run_id, *_) = {one.run for one in calls_of(calls, "tag")}
    log = Record(tmp_path / "other.jsonl")
    log.write(Call("batch", 900_001, run_id), SENT)
    log.write(Call("artifact", 900_002, run_id), SENT)
    log.close()
    assert run.check(url, tmp_path / "other.jsonl", lambda _: None).ok
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        row = ("p900001.0", "900001:0", run_id)
        database.execute("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", row)
    (finding,) = run.check(url, tmp_path / "other.jsonl", lambda _: None).findings
    assert (finding["kind"], finding["fault"]) == ("batch", "half there")


@pytest.mark.budget(60)
def test_ctrl_c_ends_the_writing_and_reads_back_what_was_acknowledged(
    tasks: Tasks, url: str, tmp_path: Path, until: Callable[..., str]
) -> None:
    file = tmp_path / "calls.jsonl"
    started = tasks.start(
        *("torture", "--url", url, "--minutes", "60", "--clients", "2", "--json"),
        *("--record", str(file)),
    )
    deadline_s = time.monotonic() + 40
    while not (file.exists() and ACKNOWLEDGED in file.read_text()):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    started.send_signal(signal.SIGINT)
    text, _ = started.communicate(timeout=60)
    assert started.returncode == 0, text
    shown: dict[str, Any] = json.loads(text[text.index("{\n") :])
    assert shown["ok"]
    assert shown["calls"]["run"][ACKNOWLEDGED] >= 2


@pytest.mark.budget(30)
def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{local.free_port()}"
    with pytest.raises(Failure, match="no server answers at"):
        run.torture(nobody, 1, 1, tmp_path / "calls.jsonl", lambda _: None)
