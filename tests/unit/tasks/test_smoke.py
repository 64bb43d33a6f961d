"""`invoke smoke-test`: what it refuses, what it prints, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image import progress
from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.check import Options
from mlflow_image.checks.smoke.report import Report, Row
from mlflow_image.tasks.smoke import smoke_test

GOOD = Row("written", "tags", "written", "written", True, 0.1)
BAD = Row("read back", "metric loss", "40 points", "39 points", False, 0.1)
URL = "http://server:5000"


def run(**flags: Any) -> int:
    """Run the task; returns the exit code."""
    try:
        smoke_test(Context(), **flags)
    except Exit as end:
        return int(end.code)
    return 0


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The rows that the server's test returns; each test adds its own."""
    found = [GOOD]

    def check_server(url: str, options: Options, on_step: Callable[[str], None]) -> Report:
        on_step("written: tags")
        return Report(url, tuple(found), 1.0, ("an experiment",) if options.keep else ())

    monkeypatch.setattr(check, "check_server", check_server)
    return found


@pytest.mark.parametrize(
    ("flags", "because"),
    [
        ({"url": "server"}, "no scheme"),
        ({"url": URL, "image": "x"}, "--url and --image exclude each other"),
        ({"keep": True}, "--keep needs --url"),
    ],
)
def test_bad_flags_are_refused_with_exit_code_2(
    flags: dict[str, Any], because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(**flags) == 2
    output = capsys.readouterr()
    assert because in output.err
    assert output.out == ""


def test_a_correct_server_ends_with_exit_code_0(
    rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(url=URL) == 0
    output = capsys.readouterr().out
    assert "all 1 comparisons passed" in output
    assert "run `mlflow gc` there" in output


def test_a_difference_ends_with_exit_code_1_and_is_the_message(
    rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    rows.append(BAD)
    assert run(url=URL) == 1
    wanted = "read back: metric loss: expected 40 points, found 39 points"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(("extra", "code"), [([], 0), ([BAD], 1)])
def test_stdout_has_only_the_json_whatever_the_verdict(
    rows: list[Row],
    extra: list[Row],
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    rows += extra
    assert run(url=URL, json=True) == code
    output = capsys.readouterr()
    assert json.loads(output.out)["ok"] is (code == 0)
    assert "written: tags" in output.err
    assert f"ok smoke test of {URL}" in output.err


def test_what_is_kept_is_named(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(url=URL, keep=True) == 0
    assert "left on http://server:5000: an experiment" in capsys.readouterr().err
