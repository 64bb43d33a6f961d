"""scripts/guest/hand-over.sh: nothing is handed over before the boot has finished."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.paths import HERE

Program = Callable[[str, str], Path]


@pytest.mark.parametrize("state", ["starting", "maintenance", ""])
def test_an_unfinished_boot_is_refused_with_its_state_and_jobs(
    program: Program, tmp_path: Path, state: str
) -> None:
    program("systemctl", f'[ "$1" = list-jobs ] && echo "a job" || echo {state}; exit 1')
    program("mount", f"touch {tmp_path}/mounted")
    words = ["bash", HERE.guest_scripts / "hand-over.sh", "."]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"its state is {state or 'starting'}" in done.stderr
    assert "a job" in done.stderr + done.stdout
    assert not (tmp_path / "mounted").exists()
