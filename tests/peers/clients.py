"""Clients with MLflow's own client: one large file, and many small ones whose loss is counted."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.server.local import environment, own_environment

#: MLflow prints no lines of its own.
QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
#: A client gives up soon, so that a fault is seen as one.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
#: Logs 1,000 files; prints the run, and how many are listed.
MANY = """
import pathlib, sys, tempfile
import mlflow
with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
    for number in range(1000):
        pathlib.Path(folder, f"{number:04}.txt").write_text(str(number))
    mlflow.log_artifacts(folder, "many")
print(run.info.run_id, len(mlflow.MlflowClient().list_artifacts(run.info.run_id, "many")))
"""
#: Logs a file of one GiB, reads it back; prints the rates in MB/s.
BIG = """
import hashlib, pathlib, sys, tempfile, time
import mlflow
def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
sent = pathlib.Path(sys.argv[1])
size = sent.stat().st_size / 1e6
mlflow.set_experiment(sys.argv[2])
began = time.monotonic()
with mlflow.start_run() as run:
    mlflow.log_artifact(str(sent))
up = time.monotonic()
with tempfile.TemporaryDirectory(dir=sent.parent) as folder:
    uri = f"{run.info.artifact_uri}/{sent.name}"
    back = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
    down = time.monotonic()
    assert digest(back) == digest(sent)
rates = f"{size / (up - began):.0f} {size / (down - up):.0f}"
print(run.info.artifact_uri.partition(":")[0], rates)
"""


#: Clients that log small artifacts until the time is over; each line is one that was acknowledged.
WRITER = """
import hashlib, json, os, pathlib, sys, tempfile, threading, time
import mlflow
from mlflow import MlflowClient
seconds, threads, target = float(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
pause = float(sys.argv[4])
client = MlflowClient()
lock, failed = threading.Lock(), {}
end = time.monotonic() + seconds
def work(number):
    run = None
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            count += 1
            name = f"{number}-{count}.bin"
            data = os.urandom(1000 + 37 * (count % 500))
            pathlib.Path(folder, name).write_bytes(data)
            try:
                run = run or client.create_run("0").info.run_id
                client.log_artifact(run, str(pathlib.Path(folder, name)), "many")
            except Exception as error:
                text = str(error).replace(run or "RUN", "RUN").replace(name, "FILE")[-500:]
                with lock:
                    failed[text] = failed.get(text, 0) + 1
                time.sleep(0.5)
                continue
            line = json.dumps([run, f"many/{name}", hashlib.sha256(data).hexdigest()])
            with lock, target.open("a") as log:
                log.write(f"{line}\\n")
            time.sleep(pause)
workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
[one.start() for one in workers]
[one.join() for one in workers]
print(json.dumps(failed))
"""
#: Reads every acknowledged artifact back; prints how many there are, and which are lost.
READER = """
import hashlib, json, os, pathlib, sys
from concurrent.futures import ThreadPoolExecutor
import requests
rows = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
artifacts = f"{os.environ['MLFLOW_TRACKING_URI']}/api/2.0/mlflow-artifacts/artifacts/0"
session = requests.Session()
def lost(row):
    run, path, digest = row
    answer = session.get(f"{artifacts}/{run}/artifacts/{path}", timeout=120)
    if answer.status_code != 200:
        return f"{path}: {answer.status_code} {answer.text[:200]}"
    return "" if hashlib.sha256(answer.content).hexdigest() == digest else f"{path}: other bytes"
with ThreadPoolExecutor(8) as pool:
    print(json.dumps([len(rows), [one for one in pool.map(lost, rows) if one]]))
"""


@dataclass
class Written:
    """What a writer got acknowledged, what failed with which words, what is not there."""

    acknowledged: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @property
    def figure(self) -> str:
        return (
            f"lost {len(self.lost)} of {self.acknowledged} acknowledged; "
            f"{sum(self.failed.values())} refused"
        )


@contextmanager
def writing(
    folder: Path, url: str, seconds: float, threads: int = 2, pause_s: float = 0.3, **variables: str
) -> Iterator[Written]:
    """Log artifacts while the body runs, and for the rest of the time; then read all of them.

    folder: for the log. pause_s: of a thread after each artifact. variables: what replaces those of
    impatient clients.
    """
    result = Written()
    log = folder / f"acknowledged-{time.monotonic_ns()}"
    log.touch()
    given = {**IMPATIENT, "MLFLOW_TRACKING_URI": url, **variables}
    process = subprocess.Popen(
        [
            environment() / "bin" / "python",
            "-c",
            WRITER,
            str(seconds),
            str(threads),
            str(log),
            str(pause_s),
        ],
        env={**own_environment(), **QUIET, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield result
        shown, _ = process.communicate(timeout=seconds + 300)
    finally:
        process.kill()
        process.wait()
    result.failed = json.loads(shown.splitlines()[-1])
    read = subprocess.run(
        [environment() / "bin" / "python", "-c", READER, str(log)],
        env={**own_environment(), **QUIET, "MLFLOW_TRACKING_URI": url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    ).stdout
    result.acknowledged, result.lost = json.loads(read.splitlines()[-1])
