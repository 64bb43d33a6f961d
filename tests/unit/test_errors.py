"""Errors: the message that a user reads, and the exit code."""

from __future__ import annotations

import pytest

from mlflow_image.errors import Failure, Refusal, Refusals


def test_a_failure_shows_what_happened_then_evidence_then_remedy() -> None:
    failure = Failure("the guest panicked", remedy="look at the log", evidence="line 1\nline 2\n")
    assert str(failure) == (
        "the guest panicked\n\n    line 1\n    line 2\n\nWhat to do: look at the log"
    )


def test_a_failure_without_remedy_and_evidence_is_one_line() -> None:
    assert str(Failure("it broke")) == "it broke"


def test_tasks_are_named_as_the_user_types_them_but_evidence_is_not_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_IMAGE_INVOKE", "scripts/invoke")
    failure = Failure("no `invoke up`", remedy="`invoke up`", evidence="run `invoke up`")
    assert str(failure) == (
        "no `scripts/invoke up`\n\n    run `invoke up`\n\nWhat to do: `scripts/invoke up`"
    )


def test_failed_work_exits_with_1_and_bad_input_with_2() -> None:
    assert Failure("x").exit_code == 1
    assert Refusal("x").exit_code == 2
    assert Refusals("x", ["y"]).exit_code == 2


def test_refusals_show_every_fault_on_its_own_line() -> None:
    refusals = Refusals("image.yaml is not valid:", ["first", "second"], remedy="correct it")
    assert str(refusals) == (
        "image.yaml is not valid:\n  - first\n  - second\nWhat to do: correct it"
    )
    assert refusals.faults == ["first", "second"]
