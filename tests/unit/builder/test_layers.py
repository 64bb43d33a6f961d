"""Layers in the cache: which one is most like a new one, what differs, how long it took."""

from __future__ import annotations

import json
import os
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


@pytest.fixture
def finished() -> Layer:
    """A layer in the cache, made of a disk and a tree."""
    layer = Layer("python", "a layer", {"a": "1"})
    layer.directory.mkdir(parents=True)
    (layer.directory / "tree.tar").write_text("a tree")
    (layer.directory / "opt.ext4").write_text("a disk")
    record = layer.record(60.0, [], layer.directory)
    (layer.directory / RECORD_NAME).write_text(json.dumps(record))
    assert layer.built and not layer.damage and not layer.tree_is_altered
    return layer


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"key": "x"}'])
def test_a_layer_with_a_damaged_record_is_not_built(finished: Layer, text: str) -> None:
    (finished.directory / RECORD_NAME).write_text(text)
    assert not finished.built
    assert finished.damage == "layer.json is missing or damaged"


@pytest.mark.parametrize("name", ["tree.tar", "opt.ext4"])
def test_a_layer_without_one_of_its_files_is_not_built(finished: Layer, name: str) -> None:
    (finished.directory / name).unlink()
    assert not finished.built
    assert finished.damage == f"{name} is missing"


@pytest.mark.parametrize("name", ["tree.tar", "opt.ext4"])
def test_a_layer_with_a_changed_file_is_not_built(finished: Layer, name: str) -> None:
    (finished.directory / name).write_text("a TREE")
    assert not finished.built
    assert finished.damage == f"{name} was changed"


def test_a_tree_that_was_altered_behind_its_time_is_found_by_its_hash(finished: Layer) -> None:
    tree = finished.directory / "tree.tar"
    stat = tree.stat()
    tree.write_text("A tree")
    os.utime(tree, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert finished.built
    assert finished.tree_is_altered


def test_a_key_does_not_depend_on_the_order_of_its_parts() -> None:
    one = Layer("x", "x", {"a": "1", "b": "2"})
    assert one.key == Layer("x", "x", {"b": "2", "a": "1"}).key
    assert one.key != Layer("x", "x", {"a": "1", "b": "3"}).key
