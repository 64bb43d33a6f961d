"""Durable renames: what waits together shares a commit, and a failed commit is an error."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlflow_launch.guards import commit

WAITERS = 8


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    return os.open(tmp_path, os.O_RDONLY)


def test_waiters_share_the_next_commit(monkeypatch: pytest.MonkeyPatch, descriptor: int) -> None:
    begun, go, seen = threading.Event(), threading.Event(), []

    def slow_sync(synced: int) -> None:
        seen.append(synced)
        begun.set()
        go.wait(5)

    monkeypatch.setattr(os, "fsync", slow_sync)
    commits = commit.Commits()
    with ThreadPoolExecutor(WAITERS + 1) as pool:
        first = pool.submit(commits.wait, descriptor)
        begun.wait(5)
        rest = [pool.submit(commits.wait, descriptor) for _ in range(WAITERS)]
        time.sleep(0.1)  # they wait now: their changes came after the commit that is under way
        assert not any(one.done() for one in rest)
        go.set()
        for one in (first, *rest):
            one.result(timeout=5)
    assert len(seen) == 2


def test_a_failed_commit_is_an_error_and_the_others_try_again(
    monkeypatch: pytest.MonkeyPatch, descriptor: int
) -> None:
    answers = [OSError("the disk is gone"), None]

    def sync(_: int) -> None:
        if answer := answers.pop(0):
            raise answer

    monkeypatch.setattr(os, "fsync", sync)
    commits = commit.Commits()
    with pytest.raises(OSError, match="the disk is gone"):
        commits.wait(descriptor)
    commits.wait(descriptor)
    assert answers == []


@pytest.mark.parametrize("ext4", [True, False])
def test_a_published_file_replaces_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ext4: bool
) -> None:
    monkeypatch.setattr(commit, "_is_ext4", lambda _: ext4)
    staged, target = tmp_path / "staged", tmp_path / "target"
    target.write_text("old")
    staged.write_text("new")
    commit.publish(staged, target)
    assert target.read_text() == "new"
    assert not staged.exists()
