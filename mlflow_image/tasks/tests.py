"""Task that tests everything: test."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from invoke.context import Context

from mlflow_image import command
from mlflow_image.checks import record as verified_record
from mlflow_image.errors import Failure
from mlflow_image.paths import HERE
from mlflow_image.tasks.task import refuse_unknown, task

#: In the order of what they cost.
FOLDERS = ("lint", "unit", "system")


@task(
    help={
        "full": "also what takes too long for every commit; writes docs/verified.json",
        "only": "one of lint, unit, system",
        "k": "only tests whose names match, as pytest's -k",
    }
)
def test(context: Context, full: bool = False, only: str = "", k: str = "") -> None:
    """Lint, unit tests, one real bake, scenarios in real VMs.

    Ends with a table of the seconds each test took and may take.
    """
    refuse_unknown("only", only, ("", *FOLDERS))
    folders = [f"tests/{name}" for name in ([only] if only else FOLDERS)]
    commit = verified_record.commit()
    with tempfile.TemporaryDirectory() as scratch:
        record = Path(scratch) / "record.json"
        words = [sys.executable, "-m", "pytest", *folders, f"--record={record}"]
        words += ["--full"] if full else []
        words += ["-k", k] if k else []
        exit_code = command.attend(words, cwd=HERE.root)
        if full and record.is_file():
            verified_record.update(json.loads(record.read_text())["rows"], commit)
    if exit_code != 0:
        raise Failure("tests failed; pytest's output above says which")
