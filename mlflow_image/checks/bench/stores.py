"""A server with the stores of a settings file: calls, large files and memory, natively.

What is written is deleted again; MLflow keeps deleted experiments in its trash.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from mlflow_image import command
from mlflow_image.checks.bench import hdfs, rate
from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.checks.bench.uploads import ARTIFACTS
from mlflow_image.errors import Refusal
from mlflow_image.progress import Step
from mlflow_image.server import local
from mlflow_settings.settings import Settings

ROUNDS = 3
#: A file is quicker than a server's start.
FILE_ROUNDS = 5
WORKERS = 2
FILE_MB = 500
#: Run in the image's environment: uploads and downloads a file with boto3 alone; prints seconds.
BOTO3_ALONE = """
import boto3, json, os, sys, time
from botocore.config import Config
file, bucket, key = sys.argv[1:]
style = os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")
client = boto3.client(
    "s3",
    endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"),
    config=Config(signature_version="s3v4", s3={"addressing_style": style}),
)
began = time.monotonic()
client.upload_file(file, bucket, key)
up = time.monotonic()
client.download_file(bucket, key, file + ".back")
down = time.monotonic()
client.delete_object(Bucket=bucket, Key=key)
print(json.dumps([up - began, down - up]))
"""


def measure(chosen: Settings, step: Step) -> list[Figure]:
    """Measure the image's server with these stores: against a stock server, and boto3 alone.

    With HDFS, the plugin is measured against its library alone. Raises Refusal for settings
    without PostgreSQL, S3 and HDFS.
    """
    if not (chosen.backend_store.postgresql or chosen.artifact_store.remote):
        raise Refusal(
            "these settings have neither PostgreSQL nor S3 nor HDFS",
            remedy="leave --settings out: bench measures SQLite and files by default",
        )
    figures: list[Figure] = []
    if chosen.backend_store.postgresql:
        figures += _calls(chosen, step)
    if chosen.artifact_store.s3:
        figures += _files(chosen, step)
    if cluster := chosen.artifact_store.hdfs:
        with tempfile.TemporaryDirectory() as folder:
            figures += hdfs.measure(step, cluster.uri, local.configure(Path(folder), chosen))
    return figures


def _calls(chosen: Settings, step: Step) -> list[Figure]:
    """Both servers in turn on the same database, and the memory of the image's."""
    ours: list[float] = []
    stock: list[float] = []
    memory: list[float] = []
    for number in range(ROUNDS):
        step.update(f"round {number + 1} of {ROUNDS}, stock server")
        with tempfile.TemporaryDirectory() as scratch, stock_server(Path(scratch), chosen) as url:
            stock.append(_rate(url))
        step.update(f"round {number + 1} of {ROUNDS}, image's server")
        with _ours(chosen) as url:
            ours.append(_rate(url))
            memory.append(_memory_mb())
    return [
        *rate.servers_compared("log_batch of 10 metrics over PostgreSQL", stock, ours, at_least=3),
        Figure(
            f"memory of the server with {WORKERS} workers, shared pages counted once",
            max(memory),
            "MB",
            at_most=600,
        ),
    ]


def _files(chosen: Settings, step: Step) -> list[Figure]:
    """One large file through the server, and with boto3 alone, in turn."""
    alone: list[tuple[float, float]] = []
    through: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "file"
        with file.open("wb") as output:
            for _ in range(FILE_MB):
                output.write(os.urandom(1_000_000))
        with _ours(chosen) as url:
            _through(
                url, file
            )  # a worker's first request is slower; boto3 alone has made its client
            for number in range(FILE_ROUNDS):
                step.update(f"round {number + 1} of {FILE_ROUNDS}, {FILE_MB} MB")
                alone.append(_boto3_alone(chosen, file))
                through.append(_through(url, file))
    return [
        # Both as seconds, so that the faster one is the smaller one.
        ratio(
            f"{way} of {FILE_MB} MB through the server / boto3 alone",
            [seconds[index] for seconds in alone],
            [seconds[index] for seconds in through],
            at_least=0.8,
            digits=2,
        )
        for index, way in enumerate(("upload", "download"))
    ]


@contextmanager
def stock_server(folder: Path, chosen: Settings) -> Iterator[str]:
    """Run `mlflow server` on the same database."""
    given = local.configure(folder, chosen)
    wanted = {name: given[name] for name in ("PGPASSFILE",) if name in given}
    with local.stock(
        folder, WORKERS, database=given["MLFLOW_BACKEND_STORE_URI"], variables=wanted
    ) as url:
        yield url


@contextmanager
def _ours(chosen: Settings) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory() as scratch,
        local.ours(Path(scratch), WORKERS, stores=chosen) as url,
    ):
        yield url


def _rate(url: str) -> float:
    """One client's rate of calls, in an experiment of its own, which is deleted."""
    name = f"mlflow-image-bench-{secrets.token_hex(4)}"
    api = f"{url}/api/2.0/mlflow/experiments"
    made = requests.post(f"{api}/create", json={"name": name}, timeout=60).json()["experiment_id"]
    try:
        return rate.calls_a_second(url, experiment=made)
    finally:
        requests.post(f"{api}/delete", json={"experiment_id": made}, timeout=60)


def _memory_mb() -> float:
    """Of the launcher and its workers: what they alone use, and their share of the rest."""
    running = [one for top in local.launchers() for one in (top, *top.children(recursive=True))]
    return sum(float(one.memory_full_info().pss) / 1e6 for one in running)


def _boto3_alone(chosen: Settings, file: Path) -> tuple[float, float]:
    """Seconds of an upload and a download."""
    store = chosen.artifact_store.s3
    assert store is not None  # noqa: S101 - the caller has looked
    with tempfile.TemporaryDirectory() as scratch:
        given = local.configure(Path(scratch), chosen)
        key = f"{store.prefix}/mlflow-image-bench-{secrets.token_hex(4)}".lstrip("/")
        python = local.environment() / "bin" / "python"
        done = command.run([python, "-c", BOTO3_ALONE, file, store.bucket, key], env=given)
    up, down = json.loads(done.stdout)
    return up, down


def _through(url: str, file: Path) -> tuple[float, float]:
    """Seconds of an upload and a download through the server."""
    place = f"{url}{ARTIFACTS}/mlflow-image-bench-{secrets.token_hex(4)}"
    began = time.monotonic()
    with file.open("rb") as body:
        requests.put(place, data=body, timeout=600).raise_for_status()
    up = time.monotonic()
    with requests.get(place, stream=True, timeout=600) as answer:
        answer.raise_for_status()
        with file.with_suffix(".back").open("wb") as output:
            for chunk in answer.iter_content(1 << 20):
                output.write(chunk)
    down = time.monotonic()
    requests.delete(place, timeout=600).raise_for_status()
    return up - began, down - up
