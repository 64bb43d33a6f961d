"""What the smoke test writes: the same when writing and reading, different in each test."""

from __future__ import annotations

from mlflow_image.checks.smoke.contents import (
    Contents,
    compare_history,
    compare_mapping,
    compare_numbers,
)

ONE = Contents("one", 1_700_000_000_000)
POINTS = [(0, 10, 0.5), (1, 20, 0.25), (2, 30, 0.125)]


def test_the_same_token_makes_the_same_contents() -> None:
    again = Contents("one", 1_700_000_000_000)
    assert again.metrics == ONE.metrics
    assert again.artifact == ONE.artifact
    assert again.model_output == ONE.model_output


def test_another_token_makes_other_contents_under_other_names() -> None:
    other = Contents("two", 1_700_000_000_000)
    assert other.artifact != ONE.artifact
    assert other.metrics != ONE.metrics
    assert other.coefficients != ONE.coefficients
    assert {other.experiment, other.run, other.model}.isdisjoint(
        {ONE.experiment, ONE.run, ONE.model}
    )


def test_the_artifact_has_five_megabytes() -> None:
    assert len(ONE.artifact) == 5_000_000


def test_equal_mappings_give_equal_texts_and_additional_keys_are_ignored() -> None:
    expected, found = compare_mapping({"a": "1"}, {"a": "1", "mlflow.user": "x"})
    assert expected == found == "1 values"


def test_a_changed_and_a_missing_value_are_named() -> None:
    assert compare_mapping({"a": "1"}, {"a": "2"}) == ("a = '1'", "a = '2'")
    assert compare_mapping({"a": "1"}, {}) == ("a = '1'", "a is missing")


def test_a_long_value_is_shortened_but_its_difference_stays_visible() -> None:
    expected, found = compare_mapping({"a": "x" * 500}, {"a": "x" * 499})
    assert expected != found
    assert len(expected) < 100


def test_a_history_may_be_in_any_order() -> None:
    expected, found = compare_history(POINTS, list(reversed(POINTS)))
    assert expected == found


def test_a_lost_a_changed_and_an_added_point_are_differences() -> None:
    lost = compare_history(POINTS, POINTS[:2])
    altered = compare_history(POINTS, [*POINTS[:2], (2, 30, 0.126)])
    moved = compare_history(POINTS, [*POINTS[:2], (2, 31, 0.125)])
    doubled = compare_history(POINTS, [*POINTS, (3, 40, 1.0)])
    assert lost == ("point step 2, 0.125 at 30", "no point of step 2")
    assert altered == ("point step 2, 0.125 at 30", "point step 2, 0.126 at 30")
    assert moved == ("point step 2, 0.125 at 30", "point step 2, 0.125 at 31")
    assert doubled == ("3 points", "4 points")


def test_predictions_may_differ_by_rounding_only() -> None:
    same = compare_numbers([1.0, 2.0], [1.0 + 1e-15, 2.0])
    assert same[0] == same[1]
    assert len(set(compare_numbers([1.0], [1.000001]))) == 2
    assert len(set(compare_numbers([1.0], [1.0, 1.0]))) == 2
