"""Checks end programs and waits from outside, and cleaning up goes on without them."""

from __future__ import annotations

import time

import pytest

from mlflow_image import command, watch
from mlflow_image.errors import Failure


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL_S", 0.01)


class Stopped(Failure):
    """What the check raises."""


def stop() -> None:
    raise Stopped("enough")


@pytest.mark.parametrize("run", [command.run, lambda argv: command.stream(argv, print)])
def test_a_check_ends_a_silent_program_at_once(run: object) -> None:
    started = time.monotonic()
    with pytest.raises(Stopped), watch.during(stop):
        run(["sleep", "60"])  # type: ignore[operator]
    assert time.monotonic() - started < 2


def test_a_program_gets_all_its_input_and_returns_all_its_output_between_checks() -> None:
    calls = []
    with watch.during(lambda: calls.append(1)):
        done = command.run(["sh", "-c", "sleep 0.05; cat"], stdin="x" * 300_000)
    assert len(done.stdout) == 300_000
    assert calls


def test_cleaning_up_is_not_ended_by_the_check_that_caused_it() -> None:
    with watch.during(stop), watch.suspended():
        assert command.run(["sleep", "0.05"]).returncode == 0


def test_a_timeout_still_holds_between_checks() -> None:
    with pytest.raises(Failure, match="took longer than"):
        command.run(["sleep", "60"], timeout_s=0.05)
