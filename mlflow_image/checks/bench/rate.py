"""How many `log_batch` calls a second one client gets: the image's server and a stock server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.progress import Step
from mlflow_image.server import local

#: Metrics in one call: what a training step usually logs, and the minimum.
METRICS = (10, 1)
#: Measured calls in one round.
CALLS = 120
#: Calls before them that are not measured.
WARM_UP_CALLS = 10
ROUNDS = 3
WORKERS = 2


def measure(step: Step) -> list[Figure]:
    """Measure both servers in turn, so that the load of the machine affects both alike.

    Both run natively on the loopback, from the image's own wheels, with two workers.
    """
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    kinds: dict[str, Callable[[Path, int], AbstractContextManager[str]]] = {
        "stock": local.stock,
        "ours": local.ours,
    }
    for number in range(ROUNDS):
        for name, server in kinds.items():
            step.update(f"round {number + 1} of {ROUNDS}, {name} server")
            with tempfile.TemporaryDirectory() as folder, server(Path(folder), WORKERS) as url:
                for metrics in METRICS:
                    rates[name, metrics].append(calls_a_second(url, metrics=metrics))
    return [
        figure
        for metrics in METRICS
        for figure in compared(metrics, rates["stock", metrics], rates["ours", metrics])
    ]


def compared(metrics: int, stock: list[float], ours: list[float]) -> list[Figure]:
    """Both servers' figures for a call of so many metrics."""
    call = f"log_batch of {metrics} metric{'s' if metrics > 1 else ''}"
    return servers_compared(call, stock, ours, at_least=5)


def servers_compared(
    call: str, stock: list[float], ours: list[float], *, at_least: float
) -> list[Figure]:
    """Both servers' median rates, and the median of the ratios of each round, with its goal."""
    return [
        Figure(f"{call}, stock server", statistics.median(stock), "calls/s"),
        Figure(f"{call}, image's server", statistics.median(ours), "calls/s"),
        ratio(f"{call}, image's server / stock server", ours, stock, at_least=at_least, digits=1),
    ]


def calls_a_second(
    url: str, calls: int = CALLS, metrics: int = METRICS[0], experiment: str = "0"
) -> float:
    """One client's rate of `log_batch` calls, one after the other, after WARM_UP_CALLS others."""
    # Not at the top: importing MLflow takes a second, which every task would have to wait.
    import mlflow.entities
    import mlflow.tracking

    client = mlflow.tracking.MlflowClient(url)
    run = client.create_run(experiment).info.run_id
    started = 0.0
    for number in range(calls + WARM_UP_CALLS):
        if number == WARM_UP_CALLS:
            started = time.monotonic()
        values = [
            mlflow.entities.Metric(f"m{i}", float(number), 1_700_000_000_000, number)
            for i in range(metrics)
        ]
        client.log_batch(run, metrics=values)
    return calls / (time.monotonic() - started)
