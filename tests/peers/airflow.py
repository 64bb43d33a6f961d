"""Airflow in a home of its own: SQLite, no examples."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from mlflow_image.server.local import free_port
from tests.peers import process

START_S = 120.0


@dataclass(frozen=True)
class Airflow:
    """Its command line. home: of its user, with airflow/dags and airflow/logs."""

    home: Path
    environment: Path

    def surroundings(self, changed: Mapping[str, str] | None = None) -> dict[str, str]:
        """What its processes get. changed: Airflow's variables with other values."""
        ours = ("AIRFLOW", "AWS_", "MLFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "HOME": str(self.home),
            "PATH": f"{self.environment}/bin:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "false",
            "NO_COLOR": "1",
            **{f"AIRFLOW_VAR_{name}": value for name, value in (changed or {}).items()},
        }

    def start(
        self,
        *words: str,
        log: Path,
        changed: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to the log. options: of Airflow's configuration."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(self.environment / "bin" / "airflow"), *words],
                env={**self.surroundings(changed), **(options or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __call__(
        self, *words: str, changed: Mapping[str, str] | None = None, timeout_s: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; output and errors are together, as on a terminal."""
        return subprocess.run(
            [str(self.environment / "bin" / "airflow"), *words],
            env=self.surroundings(changed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def done(self, *words: str) -> None:
        """Run a command that must not fail."""
        shown = self(*words)
        assert shown.returncode == 0, shown.stdout

    @contextlib.contextmanager
    def scheduling(self, dag: str, log: Path, changed: Mapping[str, str]) -> Iterator[None]:
        """Run the scheduler and what it needs, for one DAG."""
        self.done("dags", "reserialize")
        self.done("dags", "pause", "--yes", dag)
        port = free_port()
        options = {
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        }
        started = self.start("standalone", log=log, changed=changed, options=options)
        try:
            # Tasks that begin before the API server answers fail.
            url = f"http://127.0.0.1:{port}/api/v2/version"
            process.until(lambda: answers(url), started, log, START_S)
            self.done("dags", "unpause", "--yes", dag)
            yield
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(timeout=20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()

    def scheduled_runs(self, dag: str) -> list[dict[str, Any]]:
        """The runs that the scheduler has made of a DAG, in the order of their start."""
        shown = self("dags", "list-runs", dag, "--output", "json").stdout
        rows = json.loads(shown[shown.index("[{") :]) if "[{" in shown else []
        made = [row for row in rows if row["run_id"].startswith("scheduled__")]
        return sorted(made, key=lambda row: str(row["start_date"]))


def answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=5).ok
    return False
