"""examples/nightly: Airflow runs Spark over SSH every night, and MLflow has one result for each."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from . import nightly_pages, nightly_rig
from .conftest import PASSWORD, Day, row
from .nightly_pages import typed
from .nightly_rig import Rig, Watch, files_with, process_of, refused_lines, wait_until

pytestmark = pytest.mark.full

FIRST, SECOND = "2026-11-01_2026-11-01", "2026-11-02_2026-11-02"
#: `dags test` of a date runs the day before.
AFTER_FIRST, AFTER_SECOND = "2026-11-02", "2026-11-03"
MODELS = {"logistic_regression", "random_forest"}
#: Of a night on 2 cores. It is recorded, not asserted: what else runs here changes it.
GOAL_S = 360
PNG = "89504e470d0a1a0a"


@pytest.fixture(scope="module")
def rig(day: Day, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with nightly_rig.running(tmp_path_factory.mktemp("nightly"), day) as made:
        yield made


def by_model(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The runs by model; fails unless each has exactly one, which has finished."""
    runs = {run["tags"]["nightly.model"]: run for run in found["runs"]}
    assert len(found["runs"]) == 3, found["runs"]
    assert set(runs) == {*MODELS, "comparison"}
    assert {run["status"] for run in runs.values()} == {"FINISHED"}
    return runs


@pytest.mark.budget(900)
@pytest.mark.verifies(row("a night of Airflow"))
def test_a_night_passes_and_its_result_is_in_mlflow(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    with Watch(PASSWORD) as watch:
        done = rig.dag(AFTER_FIRST)
    taken = time.monotonic() - began
    assert done.returncode == 0, done.stdout[-5000:]
    found = rig.results(FIRST, deep=True)
    runs = by_model(found)
    for name in MODELS:
        run = runs[name]
        assert run["params"]["first"] == "2026-11-01"
        assert run["files"] == ["model", "predictions.csv"]
        metrics = run["metrics"]
        assert metrics["f1_low"] < metrics["f1"] < metrics["f1_high"]
        again = found["intervals"][name]
        assert [metrics["f1"], metrics["f1_low"], metrics["f1_high"]] == pytest.approx(
            again, abs=0.004
        )
        assert metrics["f1"] == pytest.approx(again[0], abs=1e-9)
        assert found["same"][name] == 200, "the model in MLflow predicts what the step predicted"
    comparison = runs["comparison"]
    for name in ("t", "p_value"):
        assert comparison["metrics"][name] == pytest.approx(found["statistics"][name], rel=1e-6)
    assert comparison["tags"]["conclusion"] == "random_forest is better than logistic_regression"
    assert comparison["metrics"]["p_value"] < 0.05
    assert comparison["files"] == ["f1.png", "f1_of_parts.csv"]
    assert found["plot"] == PNG
    assert any("train.py" in line for line in watch.seen)
    assert any("org.apache.spark" in line for line in watch.seen)
    assert watch.showing == set()
    assert PASSWORD in (rig.work / "mlflow.env").read_text()
    assert PASSWORD not in done.stdout
    assert files_with(PASSWORD, rig.airflow.home, rig.hdfs.folder, rig.folder / "spark") == []
    assert listed(rig) == [f"processed/{FIRST}", f"raw/{FIRST}"]
    figures = (f"{name} F1 {runs[name]['metrics']['f1']:.3f}" for name in sorted(MODELS))
    record_property("figure", f"{taken:.0f} s (goal {GOAL_S} s); {', '.join(figures)}")


@pytest.mark.budget(1500)
@pytest.mark.verifies("001: killed tasks of the night leave one result for each model and day")
def test_killed_tasks_leave_one_result(
    rig: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    log = tmp_path / "killed.log"
    killed = rig.start_dag(AFTER_SECOND, log)
    try:
        # The step on the cluster dies: Airflow tries it again.
        remote = process_of("train.py --model")
        name = remote.cmdline()[3]
        assert name in MODELS
        wait_until(lambda: models(rig, name), "the run has begun")
        lost = models(rig, name)
        remote.send_signal(signal.SIGKILL)
        remote.wait()
        last = process_of(f"train.py --model {name}", timeout_s=500)
        wait_until(lambda: set(models(rig, name)) - {*lost}, "the next run has begun")
        assert not set(models(rig, name)) & {*lost}, "the run that was lost is removed"
        # Airflow dies: sshd ends the step.
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    wait_until(lambda: not last.is_running(), "sshd ends the step", 60)
    left = rig.results(SECOND)["runs"]
    assert [run["status"] for run in left if run["tags"]["nightly.model"] == name] != ["FINISHED"]
    done = rig.dag(AFTER_SECOND)
    assert done.returncode == 0, done.stdout[-5000:]
    by_model(rig.results(SECOND))
    assert [path for path in rig.paths() if SECOND in path] == [
        f"processed/{SECOND}",
        f"raw/{SECOND}",
    ]
    if earlier := rig.results(FIRST)["runs"]:
        assert len(earlier) == 3, "the other day keeps its result"
    record_property("figure", f"{len(left)} runs before the repetition, 3 after it")


def listed(rig: Rig) -> list[str]:
    """What the tutorial's command shows of HDFS; `hdfs dfs` is a name of Hadoop's FsShell."""
    line = nightly_pages.blocks(nightly_pages.TUTORIAL)[3][0]
    first, second, *words = shlex.split(line)
    assert (first, second) == ("hdfs", "dfs")
    rows = [row for row in rig.hdfs.fs(*words).splitlines() if row.startswith("drwx")]
    return sorted(row.split()[-1].removeprefix("nightly/") for row in rows)


def models(rig: Rig, name: str) -> list[str]:
    return [
        run["id"] for run in rig.results(SECOND)["runs"] if run["tags"]["nightly.model"] == name
    ]


@pytest.mark.budget(400)
def test_the_scheduler_catches_up_with_missed_days_one_at_a_time(rig: Rig, tmp_path: Path) -> None:
    """The runs are refused at their first step: this is about which runs there are."""
    today = datetime.now(timezone.utc).date()
    missed = [today - timedelta(days=2), today - timedelta(days=1)]
    file = rig.airflow.home / "airflow" / "dags" / "nightly.py"
    text = file.read_text()
    start = "START = datetime(2026, 11, 1,"
    assert start in text
    first = missed[0]
    file.write_text(
        text.replace(start, f"START = datetime({first.year}, {first.month}, {first.day},")
    )

    def ended() -> list[dict[str, Any]]:
        return [row for row in rig.airflow.scheduled_runs("nightly") if row["state"] == "failed"]

    log = tmp_path / "scheduler.log"
    try:
        with rig.airflow.scheduling("nightly", log, {"KEY_FILE": str(tmp_path / "no-key")}):
            wait_until(lambda: len(ended()) >= len(missed), "two runs", 300)
            runs = rig.airflow.scheduled_runs("nightly")
    finally:
        file.write_text(text)
    assert [row["logical_date"][:10] for row in runs] == [str(day) for day in missed]
    assert runs[0]["end_date"] <= runs[1]["start_date"], "one after the other"
    logs = [
        path.read_text() for path in rig.airflow.home.rglob("dag_id=nightly/run_id=sched*/**/*.log")
    ]
    assert len(logs) == len(missed)
    for content in logs:
        (line,) = refused_lines(content)
        assert f"KEY_FILE {tmp_path}/no-key cannot be read" in line
        assert "Traceback" not in content


@pytest.mark.budget(120)
def test_a_missing_variable_is_refused_with_one_line(rig: Rig) -> None:
    rig.airflow("variables", "delete", "WORKPATH")
    try:
        done = rig.dag(AFTER_FIRST)
    finally:
        rig.airflow("variables", "set", "WORKPATH", str(rig.work))
    assert done.returncode != 0
    (line,) = refused_lines(done.stdout)
    assert "Airflow's variable WORKPATH is not set" in line
    assert "airflow variables set WORKPATH VALUE" in line
    assert "Traceback" not in done.stdout


@pytest.mark.budget(300)
def test_one_step_by_hand_replaces_its_result(rig: Rig) -> None:
    before = {run["tags"]["nightly.model"]: run["id"] for run in rig.results(FIRST)["runs"]}
    typed(nightly_pages.blocks(nightly_pages.TUTORIAL)[3][1], rig.work, {})
    after = {name: run["id"] for name, run in by_model(rig.results(FIRST)).items()}
    assert {name for name in after if after[name] != before[name]} == {"random_forest"}


@pytest.mark.budget(600)
def test_the_packages_install_as_the_pages_say(tmp_path: Path) -> None:
    for part in ("airflow", "cluster"):
        shutil.copy(nightly_pages.EXAMPLE / f"requirements-{part}.txt", tmp_path)
    make, install = filter(nightly_pages.is_install, nightly_pages.master())
    (install_airflow,) = filter(nightly_pages.is_install, nightly_pages.airflow())
    for line in (make, install, make.replace(".venv", "airflow"), f"airflow/bin/{install_airflow}"):
        typed(line, tmp_path, {})
    shown = typed(".venv/bin/python -c 'import mlflow.spark, scipy, matplotlib'", tmp_path, {})
    assert "Error" not in shown
    home = {"AIRFLOW_HOME": str(tmp_path / "home")}
    assert typed("airflow/bin/airflow version", tmp_path, home).strip().startswith("3.")


def test_the_tutorial_shows_the_commands_of_the_example() -> None:
    *same, own = nightly_pages.blocks(nightly_pages.TUTORIAL)
    assert same == nightly_pages.blocks(nightly_pages.README)
    assert len(own) == 2


@pytest.mark.budget(120)
def test_an_open_key_is_refused_with_one_line(rig: Rig, tmp_path: Path) -> None:
    key = Path(shutil.copy(rig.sshd.key, tmp_path / "key"))
    key.chmod(0o644)
    done = rig.dag(AFTER_FIRST, KEY_FILE=str(key))
    assert done.returncode != 0
    (line,) = refused_lines(done.stdout)
    assert f"KEY_FILE {key} has mode 0644" in line and f"chmod 600 {key}" in line
    assert "Traceback" not in done.stdout


@pytest.mark.budget(120)
def test_an_unknown_host_is_refused_with_one_line(rig: Rig) -> None:
    known = rig.airflow.home / ".ssh" / "known_hosts"
    content = known.read_text()
    known.write_text("")
    try:
        done = rig.dag(AFTER_FIRST)
    finally:
        known.write_text(content)
    assert done.returncode != 0
    (line,) = refused_lines(done.stdout)
    assert f"ssh-keyscan -p {rig.sshd.port} 127.0.0.1" in line
    assert "Traceback" not in done.stdout


@pytest.mark.budget(120)
def test_a_folder_that_the_cluster_lacks_is_refused_with_its_reason(rig: Rig) -> None:
    done = rig.dag(AFTER_FIRST, WORKPATH="/nowhere")
    assert done.returncode != 0
    assert "cd: /nowhere: No such file or directory" in done.stdout
    (line,) = refused_lines(done.stdout)
    assert "the line above says why" in line
    assert "Traceback" not in done.stdout


@pytest.mark.budget(60)
def test_the_cluster_refuses_what_it_lacks_with_one_line(rig: Rig, tmp_path: Path) -> None:
    work = Path(shutil.copytree(rig.work, tmp_path / "work", symlinks=True))
    assert rig.check(work).returncode == 0

    def refused() -> str:
        done = rig.check(work)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        return line

    (work / "mlflow.env").chmod(0o644)
    assert "has mode 0644, so others can read it: chmod 600" in refused()
    (work / "mlflow.env").chmod(0o600)
    (work / "mlflow-ca.pem").unlink()
    assert f"copy it to {work}/mlflow-ca.pem" in refused()
    (work / "mlflow.env").unlink()
    assert "mlflow.env is missing" in refused()
    (work / "cluster.env").write_text("SPARK_MASTER=yarn\n")
    assert "HDFS_ROOT is missing" in refused()
    (work / "cluster.env").write_text("SPARK_MASTER\n")
    assert "cluster.env:1: not a line NAME=value" in refused()
    (work / "cluster.env").unlink()
    assert "copy cluster.env.example there" in refused()
