"""What durable uploads cost: the image's server, and the same one without waiting for the disk."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.progress import Step
from mlflow_image.server import local

ROUNDS = 3
CLIENTS = 16
WORKERS = 2
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
#: Size of a file in bytes -> files in one round: a plot or a small model, and a large one.
FILES = {3_000: 800, 2_000_000: 80}
#: Takes the place of mlflow_launch/guards/commit.py in the server that does not wait.
WITHOUT_WAITING = """\
def publish(staged, target):
    staged.replace(target)


def sync_file(path):
    pass


sync_directory = sync_file
"""


def measure(step: Step) -> list[Figure]:
    """Measure both servers in turn, natively on the loopback, on the disk of the temporary folder.

    Returns for each size the rate of the image's server, and its ratio to the other one's.
    """
    rates: dict[tuple[bool, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        hasty = Path(scratch) / "library"
        shutil.copytree(local.LIBRARY, hasty)
        (hasty / "mlflow_launch/guards/commit.py").write_text(WITHOUT_WAITING)
        for number in range(ROUNDS):
            for durable, library in ((False, hasty), (True, local.LIBRARY)):
                kind = "durable" if durable else "without waiting"
                step.update(f"round {number + 1} of {ROUNDS}, {kind}")
                with (
                    tempfile.TemporaryDirectory() as folder,
                    local.ours(Path(folder), WORKERS, library=library) as url,
                ):
                    for size, count in FILES.items():
                        rates[durable, size].append(files_a_second(url, size, count))
    return [
        figure for size in FILES for figure in compared(size, rates[False, size], rates[True, size])
    ]


def compared(size: int, hasty: list[float], durable: list[float]) -> list[Figure]:
    """The median rate of durable uploads, and the median of the ratios of each round."""
    upload = f"uploads of {size / 1000:g} kB, {CLIENTS} clients"
    return [
        Figure(upload, statistics.median(durable), "files/s"),
        ratio(
            f"{upload}, durable / without waiting for the disk",
            durable,
            hasty,
            # Large files wait for the disk itself, whose speed is not ours.
            at_least=0.8 if size < 100_000 else None,
            digits=2,
        ),
    ]


def files_a_second(url: str, size: int, count: int) -> float:
    """The rate at which CLIENTS clients upload `count` files of `size` bytes in all."""
    data = b"x" * size

    def upload(client: int) -> None:
        with requests.Session() as session:
            for number in range(count // CLIENTS):
                place = f"{url}{ARTIFACTS}/{size}/{client}/{number}"
                session.put(place, data=data, timeout=60).raise_for_status()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(upload, range(CLIENTS)))  # connections, imports and folders
        started = time.monotonic()
        list(pool.map(upload, range(CLIENTS)))
    return count / (time.monotonic() - started)
