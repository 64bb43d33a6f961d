"""The clients that log: each thread sends one call after the other, and writes down each."""

from __future__ import annotations

import functools
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag

from mlflow_image.checks.smoke.protocol import brief
from mlflow_image.checks.torture import contents
from mlflow_image.checks.torture.record import ACKNOWLEDGED, REFUSED, SENT, Call, Record

#: Calls of each kind in one run, before it ends.
ROUNDS = 12
#: After a refusal, so that a server that is down is not asked without a pause.
PAUSE_S = 0.5


class Writers:
    """Threads of one process. refusals: how often each text was the answer."""

    def __init__(self, url: str, record: Record, token: str, first_number: int) -> None:
        self.client: Any = mlflow.MlflowClient(url, url)
        self.record = record
        self.token = token
        self.stop = threading.Event()
        self.refusals: Counter[str] = Counter()
        self._numbers = itertools.count(first_number)
        self._lock = threading.Lock()

    def run(self, threads: int, seconds: float, on_second: Callable[[], None]) -> None:
        """Log until the time is over, or `stop` is set."""
        experiment = self._experiment()
        end_s = time.monotonic() + seconds
        workers = [
            threading.Thread(target=self._work, args=(experiment, number), daemon=True)
            for number in range(threads)
        ]
        for worker in workers:
            worker.start()
        while time.monotonic() < end_s and not self.stop.wait(1):
            on_second()
        self.stop.set()
        for worker in workers:
            worker.join()

    def _experiment(self) -> str:
        name = f"torture-{self.token}"
        found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.client.create_experiment(name))

    def _work(self, experiment: str, number: int) -> None:
        model = f"torture-{self.token}-{number}"
        has_model = False
        with tempfile.TemporaryDirectory() as folder:
            while not self.stop.is_set():
                run = self._send("run", "", lambda _: self._create_run(experiment))
                if not run:
                    continue
                has_model = has_model or self._create_model(model)
                for _ in range(ROUNDS):
                    if self.stop.is_set():
                        break
                    self._round(run, model if has_model else "", Path(folder))
                self._send("end", run, functools.partial(self._end, run))

    def _round(self, run: str, model: str, folder: Path) -> None:
        self._send("batch", run, lambda number: self._log_batch(run, number))
        self._send("metric", run, lambda number: self._log_metric(run, number))
        self._send("tag", run, lambda number: self._set_tag(run, number))
        self._send("artifact", run, lambda number: self._log_artifact(run, number, folder))
        if model:
            self._send("version", run, lambda number: self._create_version(run, number, model))

    def _send(self, kind: str, run: str, action: Callable[[int], str]) -> str:
        """Send one call, written down before and after; returns its value, "" when refused."""
        with self._lock:
            number = next(self._numbers)
        self.record.write(Call(kind, number, run), SENT)
        try:
            value = action(number)
        except Exception as error:
            self.record.write(Call(kind, number, run), REFUSED)
            text = brief(error).replace(run or "RUN", "RUN").replace(str(number), "N")
            with self._lock:
                self.refusals[f"{kind}: {text}"] += 1
            self.stop.wait(PAUSE_S)
            return ""
        self.record.write(Call(kind, number, run or value, value), ACKNOWLEDGED)
        return value

    def _create_run(self, experiment: str) -> str:
        return str(self.client.create_run(experiment).info.run_id)

    def _create_model(self, name: str) -> bool:
        try:
            self.client.create_registered_model(name)
        except Exception as error:
            return "already exists" in str(error)
        return True

    def _log_batch(self, run: str, number: int) -> str:
        now_ms = int(time.time() * 1000)
        self.client.log_batch(
            run,
            [Metric(key, value, now_ms, 0) for key, value in contents.metrics(number).items()],
            [Param(key, value) for key, value in contents.params(number).items()],
            [RunTag(key, value) for key, value in contents.tags(number).items()],
        )
        return "whole"

    def _log_metric(self, run: str, number: int) -> str:
        key, value = contents.metric(number)
        self.client.log_metric(run, key, value)
        return str(value)

    def _set_tag(self, run: str, number: int) -> str:
        key, value = contents.tag(number)
        self.client.set_tag(run, key, value)
        return value

    def _log_artifact(self, run: str, number: int, folder: Path) -> str:
        name, content = contents.artifact(number)
        file = folder / Path(name).name
        file.write_bytes(content)
        self.client.log_artifact(run, str(file), str(Path(name).parent))
        file.unlink()
        return contents.digest(content)

    def _create_version(self, run: str, number: int, model: str) -> str:
        made = self.client.create_model_version(
            model, f"runs:/{run}/files", run, tags={"call": str(number)}
        )
        return f"{model}/{made.version}"

    def _end(self, run: str, _number: int) -> str:
        self.client.set_terminated(run)
        return "FINISHED"
