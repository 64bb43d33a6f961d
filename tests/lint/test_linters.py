"""Linters as tests: style, types, imports between rooms, shell, YAML."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lint.sources import CHECKOUT, SETTINGS, python_scripts, shell_scripts, yaml_files

TOOLS = Path(sys.executable).parent


def lint(name: str, *words: str | Path, remedy: str) -> None:
    """Run a linter of this environment on the checkout; fail with its findings."""
    tool = TOOLS / name
    assert tool.is_file(), f"{tool} is missing: run scripts/invoke, which installs it"
    run(tool, *words, remedy=remedy)


def run(*words: str | Path, remedy: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SETTINGS), "NO_COLOR": "1"}
    done = subprocess.run(
        words, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}\nWhat to do: {remedy}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    scripts = python_scripts()
    assert scripts, "the image's programs have no suffix and must be found by their first line"
    remedy = "`ruff check --fix`, then correct the rest by hand"
    lint("ruff", "check", "--quiet", ".", *scripts, remedy=remedy)


def test_ruff_format_changes_nothing() -> None:
    remedy = "`ruff format` the files above"
    lint("ruff", "format", "--check", ".", *python_scripts(), remedy=remedy)


@pytest.mark.budget(60)
def test_mypy_strict_finds_nothing() -> None:
    # The scenarios take an hour: a name that they use and that is gone is found here.
    packages = [CHECKOUT / "mlflow_image", SETTINGS / "mlflow_settings", SETTINGS / "mlflow_launch"]
    lint(
        "mypy",
        "--strict",
        *packages,
        CHECKOUT / "examples" / "client-kit" / "client_check",
        CHECKOUT / "tests" / "system",
        remedy="add annotations; use `type: ignore[code]` only with a reason",
    )


def test_rooms_import_only_from_lower_rooms() -> None:
    lint(
        "lint-imports",
        "--no-cache",
        remedy="import only from lower rooms; add a new room to pyproject.toml, "
        "[tool.importlinter]",
    )


def test_shellcheck_finds_nothing() -> None:
    scripts = shell_scripts()
    assert CHECKOUT / "scripts" / "invoke" in scripts
    tool = shutil.which("shellcheck")
    assert tool, "shellcheck is missing: apt install shellcheck (scripts/invoke does it as root)"
    remedy = "correct the scripts, or add `# shellcheck disable=` with the reason to one line"
    run(tool, "--severity=style", *scripts, remedy=remedy)


def test_yamllint_finds_nothing() -> None:
    names = [str(path.relative_to(CHECKOUT)) for path in yaml_files()]
    assert {"image.yaml", "invoke.yaml"} <= set(names)
    assert any(name.startswith("cloud-init/") for name in names)
    lint("yamllint", "--strict", "--format=parsable", *names, remedy="see .yamllint.yaml")
