"""bench: a figure is held against its goal; what has one can become a row of what was seen."""

from __future__ import annotations

import pytest

from mlflow_image.checks.bench.rate import Figure, as_rows, table

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
def test_a_figure_is_held_against_its_goal(figure: Figure, met: bool | None, goal: str) -> None:
    assert (figure.met, figure.goal) == (met, goal)


def test_a_limit_itself_is_still_within_the_goal() -> None:
    assert Figure("a", 5.0, "s", at_least=5).met
    assert Figure("a", 5.0, "s", at_most=5).met


def test_the_table_shows_a_miss_at_the_beginning_of_its_row() -> None:
    assert list(table(FIGURES).columns[0].cells) == ["MISSED", "ok", ""]


def test_what_has_no_goal_is_no_row_of_what_was_seen() -> None:
    assert [(row["name"], row["result"], row["figure"]) for row in as_rows(FIGURES)] == [
        ("figure: calls", "missed", "4.0 times; goal: at least 5"),
        ("figure: disk", "met", "461.0 MB; goal: at most 700"),
    ]
