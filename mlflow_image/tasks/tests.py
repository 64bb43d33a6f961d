"""The task that runs the tests: test."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from invoke.context import Context

from mlflow_image import command, progress
from mlflow_image.checks.record import add_rows, current_commit
from mlflow_image.errors import Failure
from mlflow_image.paths import HERE
from mlflow_image.tasks.task import refuse_unknown, task

#: The cheapest first.
FOLDERS = ("lint", "unit", "system")


@task(
    help={
        "full": "run the slow tests too, and record what they verified in docs/verified.json",
        "only": "one of lint, unit, system",
        "k": "only tests that match this expression, as with pytest's -k",
    }
)
def test(context: Context, full: bool = False, only: str = "", k: str = "") -> None:
    """Run linters, unit tests, one real build, and scenarios in VMs.

    The output ends with a table: the seconds that each test took, and its budget.
    """
    refuse_unknown("only", only, ("", *FOLDERS))
    folders = [f"tests/{name}" for name in ([only] if only else FOLDERS)]
    commit = current_commit()
    if only in ("", "system"):
        install_peers(full)
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "record.json"
        words = [sys.executable, "-m", "pytest", *folders, f"--record={results}"]
        words += ["--full"] if full else []
        words += ["-k", k] if k else []
        exit_code = command.run_on_terminal(words, cwd=HERE.root)
        if full and results.is_file():
            add_rows(json.loads(results.read_text())["rows"], commit)
    if exit_code != 0:
        raise Failure("tests failed; pytest's output above names them")


def install_peers(full: bool) -> None:
    """Install what tests with real peers need, as root; else say which tests will not run."""
    lists = ("packages.txt", "packages-full.txt")[: 2 if full else 1]
    peers = HERE.root / "tests" / "peers"
    missing = [one for name in lists for one in missing_packages(peers / name)]
    if not missing:
        return
    words = ["apt-get", "install", "-y", "--no-install-recommends"]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        named = " ".join([*words, *missing])
        progress.warn(f"tests with real peers are skipped; as root: {named}")
        return
    with progress.step(f"installing {', '.join(missing)} for tests with real peers"):
        command.run(["apt-get", "update"], check=False)
        for package in missing:  # one that this system does not have must not stop the others
            try:
                command.run([*words, package], env={"DEBIAN_FRONTEND": "noninteractive"})
            except Failure as failure:
                progress.warn(f"tests that need {package} are skipped: {failure}")


def missing_packages(listed: Path) -> list[str]:
    """The apt packages of a list whose program is not on this host."""
    missing = []
    for line in listed.read_text().splitlines():
        if line and not line.startswith("#"):
            program, package = line.split()[:2]
            if not any(Path("/").glob(program.lstrip("/"))) and not shutil.which(
                program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
            ):
                missing.append(package)
    return missing
