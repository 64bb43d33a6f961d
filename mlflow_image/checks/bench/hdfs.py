"""What the plugin mlflow-hdfs costs: the same files by way of it, and by hdfs-native alone."""

from __future__ import annotations

import json
import secrets
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow_image import command
from mlflow_image.checks.bench import hdfs_program
from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.progress import Step
from mlflow_image.server import local

ROUNDS = 3
MEGABYTES = 1000
FILES = 10_000
TIMEOUT_S = 1800.0


def measure(
    step: Step,
    url: str,
    variables: Mapping[str, str],
    *,
    megabytes: int = MEGABYTES,
    files: int = FILES,
) -> list[Figure]:
    """Measure both in turn in one process, on a cluster that runs; what it writes is deleted.

    url: a folder of the cluster that may be written. variables: of the client, as HADOOP_CONF_DIR
    and KRB5_CLIENT_KTNAME. Returns rates of the plugin, and their ratios to the library's.
    """
    step.update(f"{megabytes} MB up and down, and {files} files, {ROUNDS} rounds")
    place = f"{url}/mlflow-image-bench-{secrets.token_hex(4)}"
    python = local.environment() / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder:
        sizes = map(str, (megabytes, files, ROUNDS))
        done = command.run(
            [python, "-s", Path(hdfs_program.__file__), place, folder, *sizes],
            env={**variables, "MLFLOW_DISABLE_TELEMETRY": "true"},
            timeout_s=TIMEOUT_S,
        )
    taken = json.loads(done.stdout.splitlines()[-1])
    return [figure for name in taken for figure in compared(name, taken[name], megabytes, files)]


def compared(name: str, rounds: list[list[float]], megabytes: int, files: int) -> list[Figure]:
    """The figures of one action. name: up, down or list. rounds: seconds of [alone, plugin]."""
    alone, plugin = [one for one, _ in rounds], [other for _, other in rounds]
    if name == "list":
        what = f"listing {files} artifacts in HDFS"
        seconds = Figure(what, statistics.median(plugin), "s")
        return [seconds, ratio(f"{what}, plugin / library", plugin, alone, at_most=2, digits=2)]
    what = f"{megabytes} MB {name} in HDFS"
    rate = Figure(what, statistics.median(megabytes / one for one in plugin), "MB/s")
    # Of rates: the library's seconds over the plugin's.
    return [rate, ratio(f"{what}, plugin / library", alone, plugin, at_least=0.8, digits=2)]
