"""Spark with little memory, and folders in HDFS that are complete or not there."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import settings
from pyspark.sql import DataFrame, SparkSession
from settings import Days, RefusedError


@contextlib.contextmanager
def spark(name: str) -> Iterator[SparkSession]:
    """A session while the body runs."""
    found = settings.cluster()
    builder = SparkSession.builder.appName(name).master(found["SPARK_MASTER"])
    options = {
        "spark.driver.memory": found.get("SPARK_DRIVER_MEMORY", "512m"),
        "spark.executor.memory": found.get("SPARK_EXECUTOR_MEMORY", "512m"),
        "spark.sql.shuffle.partitions": str(settings.number(found, "SPARK_PARTITIONS", 4)),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for option, value in options.items():
        builder = builder.config(option, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    try:
        yield session
    finally:
        session.stop()


def path(kind: str, days: Days) -> str:
    """Where the data of a range of days are. kind: raw, or processed."""
    return f"{settings.cluster()['HDFS_ROOT']}/{kind}/{days}"


def write(session: SparkSession, rows: DataFrame, target: str) -> None:
    """Write next to the target, then rename: readers see all rows, or the earlier ones."""
    unfinished = f"{target}.unfinished"
    replace(session, target, unfinished, lambda place: rows.write.parquet(place))


def replace(
    session: SparkSession, target: str, unfinished: str, write_to: Callable[[str], None]
) -> None:
    files, new = hadoop(session, target)
    for left in files.globStatus(new(f"{unfinished}-*")):  # by an attempt that was killed
        files.delete(left.getPath(), True)
    place = f"{unfinished}-{secrets.token_hex(4)}"
    write_to(place)
    files.delete(new(target), True)
    if not files.rename(new(place), new(target)):
        raise OSError(f"HDFS did not rename {place} to {target}")


def read(session: SparkSession, target: str) -> DataFrame:
    files, new = hadoop(session, target)
    if not files.exists(new(target)):
        raise RefusedError(f"{target} is missing: run the step that writes it")
    return session.read.parquet(target)


def remove(session: SparkSession, target: str) -> None:
    files, new = hadoop(session, target)
    files.delete(new(target), True)


def hadoop(session: SparkSession, target: str) -> tuple[Any, Callable[[str], Any]]:
    """Hadoop's file system of a path, and its class for paths."""
    jvm: Any = session.sparkContext._jvm
    new = jvm.org.apache.hadoop.fs.Path
    return new(target).getFileSystem(session.sparkContext._jsc.hadoopConfiguration()), new
