"""Layers in the cache: which one is most like a new one, what differs, how long it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlflow_image.builder import keys, layers
from mlflow_image.builder.layers import RECORD_NAME, Layer
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.samples import NAMES, built

MakeInputs = Callable[..., Inputs]


def of(name: str, stack: list[Layer]) -> Layer:
    return stack[NAMES.index(name)]


@pytest.fixture
def before(make_inputs: MakeInputs, checkout: Checkout) -> list[Layer]:
    """The layers of a finished build."""
    return built(keys.of(make_inputs(), checkout))


def test_the_nearest_earlier_build_is_compared_with(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    built(keys.of(make_inputs(mlflow="4.0.0", apt={"bash": "9"}), checkout))
    after = keys.of(make_inputs(mlflow="3.18.0"), checkout)
    assert len(layers.reasons(of("python", after))) == 1


def test_a_first_build_says_so(make_inputs: MakeInputs, checkout: Checkout) -> None:
    stack = keys.of(make_inputs(), checkout)
    assert [layers.reasons(layer) for layer in stack] == [["never built here"]] * 4
    assert layers.expected_seconds(stack[0]) is None


def test_the_expected_time_is_that_of_the_most_similar_layer(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    built(keys.of(make_inputs(mlflow="3.18.0"), checkout), seconds=90.0)
    debian = replace(make_inputs(), definition=Definition(os="debian-12"))
    built(keys.of(debian, checkout), seconds=400.0)
    after = keys.of(make_inputs(mlflow="3.18.0", apt={"bash": "9"}), checkout)
    assert layers.expected_seconds(of("base", after)) == 90.0


def test_a_layer_with_a_broken_record_is_not_finished(before: list[Layer]) -> None:
    (before[0].directory / RECORD_NAME).write_text("{")
    assert layers.read_record(before[0].directory) is None
    assert layers.records("base") == []


def test_a_key_does_not_depend_on_the_order_of_its_parts() -> None:
    one = Layer("x", "x", {"a": "1", "b": "2"})
    assert one.key == Layer("x", "x", {"b": "2", "a": "1"}).key
    assert one.key != Layer("x", "x", {"a": "1", "b": "3"}).key
