"""bench: a figure is compared with its goal; only figures with a goal are recorded."""

from __future__ import annotations

import json

import pytest

from mlflow_image.checks.bench.figure import Figure, as_json, as_rows, table

FIGURES = [
    Figure("calls", 4.0, "times", at_least=5),
    Figure("disk", 461.0, "MB", at_most=700),
    Figure("boot", 34.8, "s"),
]


@pytest.mark.parametrize(
    ("figure", "met", "goal"),
    [
        (FIGURES[0], False, "at least 5"),
        (FIGURES[1], True, "at most 700"),
        (FIGURES[2], None, ""),
    ],
)
def test_a_figure_is_compared_with_its_goal(figure: Figure, met: bool | None, goal: str) -> None:
    assert (figure.met, figure.goal) == (met, goal)


def test_the_limit_itself_meets_the_goal() -> None:
    assert Figure("a", 5.0, "s", at_least=5).met
    assert Figure("a", 5.0, "s", at_most=5).met


def test_the_table_marks_a_missed_goal_in_the_first_column() -> None:
    assert list(table(FIGURES).columns[0].cells) == ["MISSED", "ok", ""]


def test_the_json_has_every_figure_and_whether_its_goal_is_met() -> None:
    found = json.loads(as_json(FIGURES))
    assert [(row["name"], row["value"], row["met"]) for row in found] == [
        ("calls", 4.0, False),
        ("disk", 461.0, True),
        ("boot", 34.8, None),
    ]


def test_a_figure_without_a_goal_is_not_recorded() -> None:
    assert [(row["name"], row["result"], row["figure"]) for row in as_rows(FIGURES)] == [
        ("figure: calls", "missed", "4.00 times; goal: at least 5"),
        ("figure: disk", "met", "461.0 MB; goal: at most 700"),
    ]
