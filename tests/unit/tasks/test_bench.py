"""`invoke bench`: what it refuses, what it prints."""

from __future__ import annotations

import json

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from mlflow_image.checks.bench import rate
from mlflow_image.checks.bench.figure import Figure
from mlflow_image.progress import Step
from mlflow_image.tasks.bench import measure

FOUND = Figure("calls", 6.7, "times", at_least=5, note="rounds: 6.7")


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: the figure is given."""

    def found(step: Step) -> list[Figure]:
        step.phase("round 1")
        return [FOUND]

    monkeypatch.setattr(rate, "measure", found)


def test_stdout_has_only_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    measure(Context(), only="rate", json=True)
    output = capsys.readouterr()
    assert [(row["value"], row["met"]) for row in json.loads(output.out)] == [(6.7, True)]
    assert "ok one client's log_batch rate" in output.err


def test_a_figure_is_shown_with_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    measure(Context(), only="rate")
    row = capsys.readouterr().out.splitlines()[-1]
    assert [word.strip() for word in row.split("  ") if word] == [
        "ok",
        "calls",
        "6.70 times",
        "at least 5",
        "rounds: 6.7",
    ]


@pytest.mark.parametrize(
    ("flags", "because"),
    [
        ({"only": "speed"}, "--only speed"),
        ({"rounds": "0"}, "--rounds 0 measures nothing"),
        ({"only": "rate", "settings": "a.yaml"}, "--settings excludes --only rate"),
        ({"only": "rate", "user_data": "a"}, "--user-data is for booting"),
        ({"only": "boot", "user_data": "a", "settings": "b"}, "--user-data is for booting"),
        ({"only": "pair"}, "two servers need a database in common"),
        ({"only": "rate", "image": "x"}, "--image is only for booting"),
    ],
)
def test_bad_flags_are_refused_with_exit_code_2(
    flags: dict[str, str], because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as caught:
        measure(Context(), **flags)
    assert caught.value.code == 2
    assert because in capsys.readouterr().err
