"""log: a warning has the journal's priority only where the journal reads it."""

from __future__ import annotations

import pytest

from mlflow_launch import log


def test_a_warning_in_the_journal_has_its_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log.warn("it differs")
    log.say("serving")
    warning, line = capsys.readouterr().err.splitlines()
    assert warning.startswith("<4>mlflow-launch [")
    assert warning.endswith("] warning: it differs")
    assert line.startswith("mlflow-launch [")


def test_a_warning_in_a_terminal_has_no_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    log.warn("it differs")
    assert capsys.readouterr().err.startswith("mlflow-launch [")
