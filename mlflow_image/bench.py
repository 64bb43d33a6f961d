"""Figures that anyone can measure again: rows of a name, a value, a goal; ratios in one run."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from mlflow_image import native
from mlflow_image.progress import Step

#: Metrics in one call, and calls in one round; a round takes some seconds.
METRICS = 10
CALLS = 120
ROUNDS = 3
WORKERS = 2


@dataclass(frozen=True)
class Figure:
    """One measured thing; goal is what the project promises, as text."""

    name: str
    value: float
    unit: str
    goal: str = ""
    note: str = ""


def rate(step: Step) -> list[Figure]:
    """One client's `log_batch` calls a second, ours against a stock server, in turn.

    Both run natively on the loopback, from the image's own wheels, with two workers.
    """
    found: dict[str, list[float]] = {"stock": [], "ours": []}
    kinds: dict[str, Callable[[Path, int], AbstractContextManager[str]]] = {
        "stock": native.stock,
        "ours": native.ours,
    }
    for number in range(ROUNDS):
        for name, server in kinds.items():
            step.update(f"round {number + 1} of {ROUNDS}, {name} server")
            with tempfile.TemporaryDirectory() as folder, server(Path(folder), WORKERS) as url:
                found[name].append(calls_a_second(url))
    ratios = [ours / stock for ours, stock in zip(found["ours"], found["stock"], strict=True)]
    return [
        Figure("log_batch, stock mlflow server", statistics.median(found["stock"]), "calls/s"),
        Figure("log_batch, the image's server", statistics.median(found["ours"]), "calls/s"),
        Figure(
            "log_batch, ratio",
            statistics.median(ratios),
            "times",
            "at least 5",
            f"rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)}",
        ),
    ]


def calls_a_second(url: str, calls: int = CALLS) -> float:
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
        metrics = [
            mlflow.entities.Metric(f"m{i}", float(number), 1_700_000_000_000, number)
            for i in range(METRICS)
        ]
        client.log_batch(run, metrics=metrics)
    return calls / (time.monotonic() - started)


def table(figures: list[Figure]) -> Table:
    """The figures as people read them."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("what", "measured", "goal", "note"):
        shown.add_column(heading, overflow="fold")
    for figure in figures:
        measured = f"{figure.value:.1f} {figure.unit}"
        shown.add_row(figure.name, measured, figure.goal, figure.note)
    return shown


def as_json(figures: list[Figure]) -> str:
    """The figures for programs."""
    return json.dumps([asdict(figure) for figure in figures], indent=1)
