"""Figures that anyone can measure again: rows of a name, a value, a goal; ratios in one run."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from mlflow_image.progress import Step
from mlflow_image.server import local

#: Metrics in one call: a training step's usual handful, and the least; calls in one round.
METRICS = (10, 1)
CALLS = 120
ROUNDS = 3
WORKERS = 2


@dataclass(frozen=True)
class Figure:
    """One measured thing, with the limit that the project promises, if it does."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def measured(self) -> str:
        return f"{self.value:.1f} {self.unit}"

    @property
    def goal(self) -> str:
        """As people say it; empty where nothing is promised."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def rate(step: Step) -> list[Figure]:
    """One client's `log_batch` calls a second, ours against a stock server, in turn.

    Both run natively on the loopback, from the image's own wheels, with two workers.
    """
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    kinds: dict[str, Callable[[Path, int], AbstractContextManager[str]]] = {
        "stock": local.stock,
        "ours": local.ours,
    }
    for number in range(ROUNDS):
        for name, server in kinds.items():
            step.update(f"round {number + 1} of {ROUNDS}, {name} server")
            with tempfile.TemporaryDirectory() as folder, server(Path(folder), WORKERS) as url:
                for metrics in METRICS:
                    found[name, metrics].append(calls_a_second(url, metrics=metrics))
    figures = []
    for metrics in METRICS:
        stock, ours = found["stock", metrics], found["ours", metrics]
        ratios = [mine / theirs for mine, theirs in zip(ours, stock, strict=True)]
        what = f"log_batch of {metrics}"
        figures += [
            Figure(f"{what}, stock mlflow server", statistics.median(stock), "calls/s"),
            Figure(f"{what}, the image's server", statistics.median(ours), "calls/s"),
            Figure(
                f"{what}, ratio",
                statistics.median(ratios),
                "times",
                at_least=5,
                note=f"rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)}",
            ),
        ]
    return figures


def calls_a_second(url: str, calls: int = CALLS, metrics: int = METRICS[0]) -> float:
    """One client logs batches one after the other; the first ten are not counted."""
    # Not at the top: importing it takes a second, and every task would wait for it.
    import mlflow.entities
    import mlflow.tracking

    client = mlflow.tracking.MlflowClient(url)
    run = client.create_run("0").info.run_id
    started = 0.0
    for number in range(calls + 10):
        if number == 10:
            started = time.monotonic()
        values = [
            mlflow.entities.Metric(f"m{i}", float(number), 1_700_000_000_000, number)
            for i in range(metrics)
        ]
        client.log_batch(run, metrics=values)
    return calls / (time.monotonic() - started)


def table(figures: list[Figure]) -> Table:
    """The figures as people read them."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("", "what", "measured", "goal", "note"):
        shown.add_column(heading, overflow="fold")
    marks = {True: "ok", False: "MISSED", None: ""}
    for figure in figures:
        shown.add_row(marks[figure.met], figure.name, figure.measured, figure.goal, figure.note)
    return shown


def as_json(figures: list[Figure]) -> str:
    """The figures for programs."""
    return json.dumps([{**asdict(figure), "met": figure.met} for figure in figures], indent=1)


def as_rows(figures: list[Figure]) -> list[dict[str, object]]:
    """The figures that have a goal, as rows for `verified.update`."""
    return [
        {
            "name": f"figure: {figure.name}",
            "result": "met" if figure.met else "missed",
            "figure": f"{figure.measured}; goal: {figure.goal}",
        }
        for figure in figures
        if figure.met is not None
    ]
