"""The commands on the pages of examples/nightly, as the tests run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlflow_image.paths import HERE
from tests.lint.pages import FENCE

EXAMPLE = HERE.root / "examples" / "nightly"
README = EXAMPLE / "README.md"
TUTORIAL = HERE.root / "docs" / "tutorials" / "001.md"


def blocks(page: Path) -> list[list[str]]:
    """The lines of each block of commands."""
    return [found[2].splitlines() for found in FENCE.finditer(page.read_text()) if found[1] == "sh"]


def laptop() -> list[str]:
    return blocks(README)[0]


def master() -> list[str]:
    return blocks(README)[1]


def airflow() -> list[str]:
    return blocks(README)[2]


def is_install(line: str) -> bool:
    """Whether it installs packages: the other tests use the locked ones."""
    return " -m venv " in line or "pip install " in line


def typed(
    line: str, folder: Path, variables: Mapping[str, str], changed: Mapping[str, str] | None = None
) -> str:
    """Run a line in a shell; changed: what replaces names that stand for a reader's own."""
    for before, after in (changed or {}).items():
        line = line.replace(before, after)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}"
    return done.stdout
