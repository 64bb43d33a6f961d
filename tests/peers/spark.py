"""Spark, standalone: a master and a worker, with the jars that PySpark brings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import process

MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"
START_S = 60.0
#: For JVMs that run for seconds: compile less.
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


@contextmanager
def running(folder: Path, environment: Path, cores: int = 2, memory: str = "1g") -> Iterator[str]:
    """Run both; yields the master's URL. environment: with PySpark."""
    folder.mkdir()
    (home,) = (environment / "lib").glob("python*/site-packages/pyspark")
    variables = {
        **{"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"},
        "JAVA_TOOL_OPTIONS": QUICK,
    }
    start = home / "bin" / "spark-class"
    port, seen = free_port(), ("--webui-port", "0")
    master = [start, MASTER, "--host", "127.0.0.1", "--port", port, *seen]
    url = f"spark://127.0.0.1:{port}"
    worker = [start, WORKER, "--host", "127.0.0.1", "--cores", cores, "--memory", memory, *seen]
    work = ("--work-dir", folder / "work", url)
    with (
        process.running(master, port, folder / "master.log", variables, START_S),
        process.daemon([*worker, *work], folder / "worker.log", variables),
    ):
        yield url
