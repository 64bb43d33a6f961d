"""For the smoke test: programs that run in place of its client process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.checks.smoke import check, process
from mlflow_image.checks.smoke.protocol import Job, PhaseStoppedError, Reporter

#: Appends its job to a file, and prints the events that another file has for the job's phase.
SCRIPT = """
import json, pathlib, sys
folder, job = pathlib.Path(sys.argv[1]), sys.stdin.read()
with (folder / "jobs").open("a") as file:
    file.write(job + chr(10))
sys.stdout.write(json.loads((folder / "events").read_text())[json.loads(job)["phase"]])
"""


@pytest.fixture
def use_program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a Python text, with arguments, as the client process."""

    def use(script: str, *arguments: str) -> None:
        monkeypatch.setattr(process, "CLIENT", (sys.executable, "-IS", "-c", script, *arguments))

    return use


class StandIn:
    """Runs in place of the client: compares one thing in each phase, as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: dict[str, str] = {}
        for phase in (check.WRITTEN, check.READ, check.REBOOTED, check.DELETED):
            self.report(phase)

    def report(self, phase: str, found: str = "a", fatal: str = "") -> None:
        """Find `found` instead of "a" in this phase, or end it with a fatal event."""
        lines: list[str] = []
        reporter = Reporter(phase, lines.append)
        if fatal:
            assert isinstance(reporter.fatal(fatal, "try another"), PhaseStoppedError)
        else:
            reporter.compare("thing", lambda: ("a", found))
            reporter.event(step="another thing")
            reporter.event(end=True)
        self.events[phase] = "".join(lines)
        (self.folder / "events").write_text(json.dumps(self.events))

    @property
    def jobs(self) -> list[Job]:
        """All jobs so far, in order."""
        file = self.folder / "jobs"
        return [Job.from_json(line) for line in file.read_text().splitlines()]

    @property
    def tasks(self) -> list[str]:
        return [job.task for job in self.jobs]


@pytest.fixture
def client(tmp_path: Path, use_program: Callable[..., None]) -> StandIn:
    use_program(SCRIPT, str(tmp_path))
    return StandIn(tmp_path)
