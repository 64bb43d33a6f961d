"""A process and its children are held to a share, and are free again afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_image.checks.bench import quota
from mlflow_image.errors import Refusal


@pytest.fixture
def parent() -> Iterator[int]:
    """A shell with a child of its own."""
    words = ["sh", "-c", "sleep 60 & echo started; wait"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


def groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_a_process_and_its_children_are_held_and_freed(parent: int) -> None:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    family = (parent, *map(int, children))
    assert len(family) == 2
    try:
        with quota.held([parent], 25):
            assert ["mlflow-image-bench-" in groups(one) for one in family] == [True, True]
            (made,) = quota.parent().glob("mlflow-image-bench-*")
            limit = [made / name for name in ("cpu.max", "cpu.cfs_quota_us")]
            assert "25000" in "".join(one.read_text() for one in limit if one.exists())
    except Refusal as refused:
        pytest.skip(str(refused).splitlines()[0])
    assert ["mlflow-image-bench-" in groups(one) for one in family] == [False, False]
    assert list(quota.parent().glob("mlflow-image-bench-*")) == []


def test_without_the_right_it_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "ROOT", tmp_path)
    with pytest.raises(Refusal, match="held to a share") as refused, quota.held([], 25):
        pass
    assert "run it as root on Linux with control groups" in str(refused.value)
