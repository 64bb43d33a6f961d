"""bench: two servers are compared round by round, because a machine's load changes."""

from __future__ import annotations

from mlflow_image.checks.bench import rate


def test_the_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() -> None:
    stock, ours, ratio = rate.compared(10, stock=[10.0, 20.0, 40.0], ours=[90.0, 120.0, 120.0])
    assert (stock.value, ours.value, ratio.value) == (20.0, 120.0, 6.0)
    assert ratio.note == "rounds: 9.0, 6.0, 3.0"


def test_only_the_ratio_has_a_goal() -> None:
    figures = rate.compared(1, stock=[1.0], ours=[4.0])
    assert [figure.met for figure in figures] == [None, None, False]
