"""Airflow with a home of its own: SQLite, no examples; its variables are environment variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Airflow:
    """Its command line. folder: its home, with dags/ and logs/. variables: of the DAGs."""

    folder: Path
    environment: Path
    variables: dict[str, str] = field(default_factory=dict)

    def surroundings(self, changed: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """What its processes get. changed: DAGs' variables with other values; None: without."""
        given: dict[str, str | None] = {**self.variables, **(changed or {})}
        ours = ("AIRFLOW", "AWS_", "MLFLOW_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "HOME": str(self.folder),
            "PATH": f"{self.environment}/bin:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "false",
            "NO_COLOR": "1",
            **{f"AIRFLOW_VAR_{name}": value for name, value in given.items() if value is not None},
        }

    def start(
        self, *words: str, log: Path, changed: Mapping[str, str | None] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to the log."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(self.environment / "bin" / "airflow"), *words],
                env=self.surroundings(changed),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __call__(
        self, *words: str, changed: Mapping[str, str | None] | None = None, timeout_s: float = 900
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


def new(folder: Path, environment: Path, variables: dict[str, str]) -> Airflow:
    """A new home with an empty database."""
    (folder / "dags").mkdir(parents=True)
    made = Airflow(folder, environment, variables)
    done = made("db", "migrate")
    assert done.returncode == 0, done.stdout[-3000:]
    return made
