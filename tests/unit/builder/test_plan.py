"""The plan: what happens to each layer, why, and the expected time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from mlflow_image.builder import keys, plan
from mlflow_image.builder.layers import RECORD_NAME, Layer
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.samples import NAMES, UNIT, built

MakeInputs = Callable[..., Inputs]


@pytest.fixture
def before(make_inputs: MakeInputs, checkout: Checkout) -> list[Layer]:
    return built(keys.of(make_inputs(), checkout), seconds=60.0)


def test_an_unchanged_build_is_cached_and_takes_no_time(before: list[Layer]) -> None:
    rows = plan.decide(before)
    assert [row.cached for row in rows] == [True] * 4
    assert plan.table(rows).count("cached") == 4
    assert plan.outlook(rows) == "every layer is in the cache"


def test_a_change_shows_what_is_stale_why_and_for_how_long(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    with (checkout.root / UNIT).open("a") as file:
        file.write("# changed\n")
    rows = plan.decide(keys.of(make_inputs(), checkout))
    assert [row.cached for row in rows] == [True, True, False, False]
    assert plan.outlook(rows) == "expected: 2 min 00 s, then the verification"
    text = plan.table(rows)
    assert f"{UNIT}: " in text
    assert "the layer below it changes" in text
    assert text.count("1 min 00 s") == 2


def test_a_first_build_has_no_expected_time(make_inputs: MakeInputs, checkout: Checkout) -> None:
    rows = plan.decide(keys.of(make_inputs(), checkout))
    assert plan.table(rows).count("unknown") == 4
    assert plan.outlook(rows) == (
        "expected: layers that were never built here (base, python, image-files, sealed)"
    )


def test_a_layer_of_unknown_time_is_named_after_the_known_time(before: list[Layer]) -> None:
    rows = plan.decide(before, rebuild="image-files")
    rows[-1] = dataclasses.replace(rows[-1], expected_s=None)
    assert (
        plan.outlook(rows)
        == "expected: 1 min 00 s, then layers that were never built here (sealed)"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuild_makes_the_named_layer_and_all_above_it(before: list[Layer], name: str) -> None:
    rows = plan.decide(before, rebuild=name)
    forced = NAMES[NAMES.index(name) :]
    assert [row.layer.name for row in rows if not row.cached] == forced
    assert all(row.reasons == ("requested by --rebuild",) for row in rows if not row.cached)


def test_many_reasons_are_cut_to_a_few(
    before: list[Layer], make_inputs: MakeInputs, checkout: Checkout
) -> None:
    apt = {f"package{n}": "1" for n in range(10)}
    text = plan.table(plan.decide(keys.of(make_inputs(apt=apt), checkout)))
    assert "apt: package0: (none) -> 1 " in text
    assert "… and 4 more" in text


def test_a_damaged_layer_is_made_again_and_the_reason_is_shown(before: list[Layer]) -> None:
    (before[1].directory / RECORD_NAME).write_text("{")
    rows = plan.decide(before)
    assert [row.cached for row in rows] == [True, False, True, True]
    assert "damaged in the cache: layer.json is missing or damaged" in plan.table(rows)
