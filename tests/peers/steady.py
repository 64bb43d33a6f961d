"""Several clients that log without end (steady_client.py), and whether all of it is there."""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from mlflow_image.paths import HERE
from mlflow_image.server.local import own_environment
from mlflow_image.server.local_balancer import Balancer
from tests.peers import pair
from tests.peers.steady_client import METRICS

PROGRAM = "tests.peers.steady_client"


@dataclass
class Clients:
    """What the clients have noted; complete after `end`."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(repr=False)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """Every call so far, in the order of its beginning."""
        lines = (line for file in self.folder.glob("*.jsonl") for line in whole_lines(file))
        return sorted((json.loads(line) for line in lines), key=lambda one: float(one["at"]))

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [one for one in self.notes if one["error"]]

    @property
    def slowest_s(self) -> float:
        return max(float(one["took"]) for one in self.notes)

    def require_alive(self) -> None:
        """Every client still runs."""
        assert [one.poll() for one in self.processes] == [None] * len(self.processes), self.said()

    def end(self, timeout_s: float = 300) -> None:
        """Let each finish its run."""
        (self.folder / "stop").touch()
        for process in self.processes:
            assert process.wait(timeout=timeout_s) == 0, self.said()

    def said(self) -> str:
        """The end of what the clients have written to their standard error."""
        return "\n".join(
            f"{file.name}: {file.read_text(errors='replace')[-1500:]}"
            for file in sorted(self.folder.glob("*.log"))
        )

    def wait_for_calls(self, count: int, timeout_s: float = 300) -> None:
        """Return when that many more calls have been acknowledged."""
        wanted = len(self.notes) + count
        deadline_s = time.monotonic() + timeout_s
        while len(self.notes) < wanted:
            self.require_alive()
            assert time.monotonic() < deadline_s, self.said()
            time.sleep(0.5)


def whole_lines(file: Path) -> list[str]:
    """The lines that are complete: the last one may still be written."""
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


@contextmanager
def running(
    folder: Path,
    variables: Mapping[str, str],
    count: int = 8,
    *,
    prefix: str = "c",
    pause_s: float = 0.0,
    file_kb: int = 20,
) -> Iterator[Clients]:
    """Run the clients while the body runs. variables: what they set to find the server."""
    folder.mkdir(exist_ok=True)
    processes = []
    with tempfile.TemporaryDirectory() as home:
        for number in range(count):
            words = [f"{prefix}{number}", folder, folder / "stop", pause_s, file_kb]
            with (folder / f"{prefix}{number}.log").open("ab") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", PROGRAM, *map(str, words)],
                        cwd=HERE.root,
                        env={**own_environment(), "HOME": home, **variables},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        try:
            yield Clients(folder, processes)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()


def lost(notes: list[dict[str, Any]], url: str, session: requests.Session) -> list[str]:
    """What was acknowledged and is not there, read over the REST API. One line for each."""
    found: list[str] = []
    good = [one for one in notes if not one["error"]]
    by_run: dict[str, list[dict[str, Any]]] = {}
    for one in good:
        if "run" in one:
            by_run.setdefault(one["run"], []).append(one)
    for run, calls in by_run.items():
        answer = session.get(f"{url}/api/2.0/mlflow/runs/get", params={"run_id": run}, timeout=120)
        if answer.status_code != 200:
            found.append(f"run {run}: status {answer.status_code}")
            continue
        known = answer.json()["run"]
        params = {one["key"]: one["value"] for one in known["data"].get("params", [])}
        steps = {one["step"] for one in calls if one["kind"] == "batch"}
        if missing := steps - logged_steps(run, url, session):
            found.append(f"run {run}: metrics of the steps {sorted(missing)}")
        for one in calls:
            if one["kind"] == "batch" and params.get(f"p{one['step']}") != one["value"]:
                found.append(f"run {run}: param p{one['step']}")
            if one["kind"] == "end" and known["info"]["status"] != "FINISHED":
                found.append(f"run {run}: its end")
            if one["kind"] == "artifact" and not is_there(one, known["info"], url, session):
                found.append(f"run {run}: its artifact")
    return found


def logged_steps(run: str, url: str, session: requests.Session) -> set[int]:
    """The steps for which a run has the last metric of a batch."""
    wanted = {"run_id": run, "metric_key": f"m{METRICS - 1}"}
    place = f"{url}/api/2.0/mlflow/metrics/get-history"
    answer = session.get(place, params=wanted, timeout=120)
    return {int(one.get("step", 0)) for one in answer.json().get("metrics", [])}


def is_there(
    note: Mapping[str, Any], info: Mapping[str, Any], url: str, session: requests.Session
) -> bool:
    """Whether an artifact has the bytes that the client has sent."""
    place = str(info["artifact_uri"]).partition("mlflow-artifacts:/")[2]
    target = f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}/{note['path']}"
    answer = session.get(target, timeout=300)
    return hashlib.sha256(answer.content).hexdigest() == str(note["sha256"])


def made_twice(notes: list[dict[str, Any]], url: str, session: requests.Session) -> list[str]:
    """The runs that exist and that no client knows: made by a call whose answer was lost."""
    known = {one["run"] for one in notes if one["kind"] == "run" and not one["error"]}
    experiments = [one["experiment"] for one in notes if one["kind"] == "experiment"]
    found: Counter[str] = Counter()
    token = ""
    while True:
        body = {"experiment_ids": experiments, "max_results": 1000, "page_token": token}
        answer = session.post(f"{url}/api/2.0/mlflow/runs/search", json=body, timeout=120)
        answer.raise_for_status()
        page = answer.json()
        found.update(one["info"]["run_id"] for one in page.get("runs", []))
        token = page.get("next_page_token", "")
        if not token:
            return sorted(set(found) - known)


@dataclass(frozen=True)
class Result:
    """What became of the calls of all clients."""

    calls: int
    runs: int
    failed: list[str]
    lost: list[str]
    twice: list[str]
    slowest_s: float
    usual_s: float

    @classmethod
    def of(cls, clients: Sequence[Clients], balancer: Balancer) -> Result:
        """Read everything back. clients: the first ones have small files."""
        session = pair.session(balancer.ca, ("admin", pair.ADMIN_PASSWORD))
        notes = [note for one in clients for note in one.notes]
        small = [float(one["took"]) for one in clients[0].notes]
        return cls(
            len(notes),
            sum(one["kind"] == "run" for one in notes),
            [f"{one['kind']}: {one['error']}" for one in notes if one["error"]],
            lost(notes, balancer.url, session),
            made_twice(notes, balancer.url, session),
            max(float(one["took"]) for one in notes),
            statistics.median(small),
        )

    def require_only_broken_answers(self) -> None:
        """What failed was an answer that ended in its middle: MLflow's client repeats no such call.

        A client has one call at a time.
        """
        assert all("Connection broken" in one for one in self.failed), self.failed
        assert len(self.failed) <= 8, self.failed

    def __str__(self) -> str:
        return (
            f"{self.calls} calls of 8 clients, {len(self.failed)} failed; {self.runs} runs, "
            f"{len(self.lost)} lost, {len(self.twice)} made twice; "
            f"a call took {self.usual_s:.1f} s, the slowest {self.slowest_s:.0f} s"
        )
