"""Airflow in a home of its own: SQLite, no examples."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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
        self, *words: str, log: Path, changed: Mapping[str, str] | None = None
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
