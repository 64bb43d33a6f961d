"""What the slow tests record: one row for each name, failed when one case of it has failed."""

from __future__ import annotations

from tests.conftest import rows_of


def result(name: str, outcome: str = "passed", figure: str = "") -> dict[str, object]:
    return {"verifies": name, "result": outcome, "figure": figure, "seconds": 1.25}


def test_a_failed_case_is_not_hidden_by_the_ones_after_it() -> None:
    results = {"t[1]": result("t"), "t[2]": result("t", "failed"), "t[3]": result("t")}
    assert rows_of(results) == [
        {"name": "t", "result": "failed", "figure": "3 cases", "seconds": 3.8, "cases": 3}
    ]


def test_a_single_case_keeps_its_figure() -> None:
    results = {"a": result("a", figure="0 of 7 lost"), "b": {"result": "passed", "seconds": 1.0}}
    assert rows_of(results) == [
        {"name": "a", "result": "passed", "figure": "0 of 7 lost", "seconds": 1.2, "cases": 1}
    ]
