"""The linters as tests: style, types, the order of the modules, shell and YAML."""

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
    """Run a linter of this environment over the checkout; its findings are the message."""
    tool = TOOLS / name
    assert tool.is_file(), f"{tool} is missing: scripts/invoke makes the environment that has it"
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
    assert len(scripts) >= 3, "the image's programs have no suffix"
    remedy = "`ruff check --fix`, then correct the rest by hand"
    lint("ruff", "check", "--quiet", ".", *scripts, remedy=remedy)


def test_everything_is_formatted() -> None:
    remedy = "`ruff format` the files above"
    lint("ruff", "format", "--check", ".", *python_scripts(), remedy=remedy)


@pytest.mark.budget(60)
def test_types_are_strict() -> None:
    packages = [CHECKOUT / "mlflow_image", SETTINGS / "mlflow_settings", SETTINGS / "mlflow_launch"]
    lint("mypy", "--strict", *packages, remedy="annotate; `type: ignore[code]` only with a reason")


def test_modules_import_only_what_stands_below_them() -> None:
    lint(
        "lint-imports",
        "--no-cache",
        remedy="import downwards only; a new module gets its place in pyproject.toml, "
        "[tool.importlinter]",
    )


def test_shell_scripts_are_clean() -> None:
    scripts = shell_scripts()
    assert len(scripts) >= 4, "the guest's steps and scripts/invoke are shell scripts"
    tool = shutil.which("shellcheck")
    assert tool, "shellcheck is missing: apt install shellcheck (scripts/invoke does when it may)"
    remedy = "correct them, or say why beside a `# shellcheck disable=` of one line"
    run(tool, "--severity=style", *scripts, remedy=remedy)


def test_yaml_is_clean() -> None:
    names = [str(path.relative_to(CHECKOUT)) for path in yaml_files()]
    assert {"image.yaml", "invoke.yaml"} <= set(names)
    assert any(name.startswith("cloud-init/") for name in names)
    lint("yamllint", "--strict", "--format=parsable", *names, remedy="see .yamllint.yaml")
