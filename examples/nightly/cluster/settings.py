"""What the steps are told: cluster.env, and mlflow.env with the password."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLUSTER = HERE / "cluster.env"
#: The first that exists is read.
MLFLOW = (HERE / "mlflow.env", Path.home() / "mlflow.env")
MODELS = ("logistic_regression", "random_forest")
#: Exit code of a step that must not be tried again: something is missing or wrong.
REFUSED = 2


class RefusedError(Exception):
    """Something that a person has to correct; its text is the one line that is shown."""


@dataclass(frozen=True)
class Days:
    """A range of days, both included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}_{self.last}"


def parse(description: str, *, of_model: bool = False) -> tuple[argparse.Namespace, Days]:
    """The arguments of a step. of_model: it also takes a model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--first", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--last", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD")
    parser.add_argument("--dag", default="by_hand", help="the name that results are found by")
    if of_model:
        parser.add_argument("--model", choices=MODELS, required=True)
    found = parser.parse_args()
    if found.last < found.first:
        parser.error(f"--last {found.last} is before --first {found.first}")
    return found, Days(found.first, found.last)


def cluster() -> dict[str, str]:
    """The settings of Spark and HDFS; they also become variables of this process."""
    if not CLUSTER.is_file():
        raise RefusedError(f"{CLUSTER} is missing: copy cluster.env.example there and edit it")
    found = read(CLUSTER)
    for name in ("SPARK_MASTER", "HDFS_ROOT"):
        if not found.get(name):
            raise RefusedError(f"{CLUSTER}: {name} is missing: see cluster.env.example")
    if not found["HDFS_ROOT"].startswith("hdfs://"):
        raise RefusedError(f"{CLUSTER}: HDFS_ROOT must begin with hdfs://")
    os.environ.update(found)
    return found


def mlflow_variables() -> dict[str, str]:
    """The variables of MLflow's client. Spark's JVM does not get them: it has started before."""
    file = next((path for path in MLFLOW if path.is_file()), None)
    if file is None:
        made = "`invoke client-env --format dotenv --with-secrets` prints it"
        raise RefusedError(f"mlflow.env is missing: put it at {MLFLOW[0]} or {MLFLOW[1]}; {made}")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise RefusedError(f"{file} has mode {mode:04o}, so others can read it: chmod 600 {file}")
    found = read(file)
    if not found.get("MLFLOW_TRACKING_URI"):
        raise RefusedError(f"{file}: MLFLOW_TRACKING_URI is missing")
    return {name: own_file(file, name, value) for name, value in found.items()}


def own_file(file: Path, name: str, value: str) -> str:
    """A certificate's path on this machine: the file may come from another one, with its CA."""
    if not name.endswith(("_CERT_PATH", "_BUNDLE")) or Path(value).is_file():
        return value
    copied = file.with_name(Path(value).name)
    if not copied.is_file():
        raise RefusedError(f"{file}: {name}: {value} is not here: copy it to {copied}")
    return str(copied)


def read(file: Path) -> dict[str, str]:
    """NAME=value lines; # begins a comment line."""
    found = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise RefusedError(f"{file}:{number}: not a line NAME=value")
        found[name] = value
    return found


def number(found: Mapping[str, str], name: str, default: int) -> int:
    """A positive number in cluster.env."""
    text = found.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise RefusedError(f"{CLUSTER}: {name} must be a positive number, but is {text!r}")
    return int(text)
