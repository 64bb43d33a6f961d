"""Reads every call of a record back, and says what is lost and what is there in part."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from mlflow_image.checks.smoke.protocol import brief
from mlflow_image.checks.torture import contents
from mlflow_image.checks.torture.record import ACKNOWLEDGED, Outcome
from mlflow_image.checks.torture.report import HALF_THERE, LOST

THREADS = 8
#: What reading a call back can find.
WHOLE, ABSENT, PART = "whole", "absent", "part"


@dataclass(frozen=True)
class Finding:
    """A call that is not as it must be. fault: LOST or HALF_THERE."""

    kind: str
    fault: str
    text: str


def verify(url: str, outcomes: list[Outcome], on_run: Callable[[int, int], None]) -> list[Finding]:
    """Compare the server with the record. on_run: gets how many runs are done, and of how many.

    Acknowledged calls must be there as they were sent. All others must be there wholly or not at
    all. Raises what the client raises when the server cannot be asked.
    """
    by_run: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.call.run:
            by_run[outcome.call.run].append(outcome)
    reader = _Reader(mlflow.MlflowClient(url, url))
    found: list[Finding] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, findings in enumerate(pool.map(reader.run, by_run, by_run.values()), start=1):
            found += findings
            on_run(done, len(by_run))
    return found


class _Reader:
    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, run_id: str, outcomes: Iterable[Outcome]) -> list[Finding]:
        """What is wrong with one run."""
        run = self._or_none(lambda: self.client.get_run(run_id))
        found = []
        with tempfile.TemporaryDirectory() as folder:
            for outcome in outcomes:
                state, text = self._state(run, outcome, Path(folder))
                acknowledged = outcome.state == ACKNOWLEDGED
                if (acknowledged and state != WHOLE) or state == PART:
                    fault = HALF_THERE if state == PART else LOST
                    call = outcome.call
                    what = f"{call.kind} {call.number} of run {run_id}"
                    found.append(Finding(call.kind, fault, f"{what}: {text or state}"))
        return found

    def _state(self, run: Any, outcome: Outcome, folder: Path) -> tuple[str, str]:
        call = outcome.call
        if call.kind == "run":
            return (WHOLE, "") if run else (ABSENT, "")
        if call.kind == "artifact":
            return self._artifact(outcome, folder)
        if call.kind == "version":
            return self._version(outcome)
        if run is None:
            return ABSENT, "its run is not there"
        data = run.data
        if call.kind == "end":
            return (WHOLE if run.info.status == "FINISHED" else ABSENT), run.info.status
        if call.kind == "metric":
            key, number = contents.metric(call.number)
            return _of([data.metrics.get(key) == number], [key in data.metrics])
        if call.kind == "tag":
            key, value = contents.tag(call.number)
            return _of([data.tags.get(key) == value], [key in data.tags])
        parts = (
            (data.metrics, contents.metrics(call.number)),
            (data.params, contents.params(call.number)),
            (data.tags, contents.tags(call.number)),
        )
        there = [key in shown for shown, sent in parts for key in sent]
        same = [shown.get(key) == value for shown, sent in parts for key, value in sent.items()]
        return _of(same, there)

    def _artifact(self, outcome: Outcome, folder: Path) -> tuple[str, str]:
        run_id = outcome.call.run
        name, content = contents.artifact(outcome.call.number)
        try:
            file = Path(self.client.download_artifacts(run_id, name, str(folder)))
        except Exception as error:
            if outcome.state == ACKNOWLEDGED:
                return ABSENT, brief(error)
            listed = self._or_none(lambda: self.client.list_artifacts(run_id, "files")) or ()
            is_listed = any(one.path == name for one in listed)
            return (PART, f"listed, but: {brief(error)}") if is_listed else (ABSENT, "")
        back = file.read_bytes()
        file.unlink()
        same = back == content
        return (WHOLE, "") if same else (PART, f"{len(back)} of {len(content)} bytes, or others")

    def _version(self, outcome: Outcome) -> tuple[str, str]:
        call = outcome.call
        if not call.value:  # not acknowledged: nobody knows its number
            return ABSENT, ""
        name, _, version = call.value.rpartition("/")
        made = self._or_none(lambda: self.client.get_model_version(name, version))
        if made is None:
            return ABSENT, ""
        same = made.run_id == call.run and made.tags.get("call") == str(call.number)
        return (WHOLE, "") if same else (PART, f"{name} version {version} has other fields")

    def _or_none(self, ask: Callable[[], Any]) -> Any:
        """What is asked for; None when the server says that it does not exist."""
        try:
            return ask()
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def _of(same: list[bool], there: list[bool]) -> tuple[str, str]:
    if all(same):
        return WHOLE, ""
    if not any(there):
        return ABSENT, ""
    return PART, f"{sum(same)} of {len(same)} values are as sent"
