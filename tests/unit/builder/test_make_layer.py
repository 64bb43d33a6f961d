"""A layer appears in the cache complete or not at all, with its record and its logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.builder import keys, layers, make_layer
from mlflow_image.builder.bake import layer
from mlflow_image.builder.bake.in_vm import How
from mlflow_image.builder.bake.layer import Job
from mlflow_image.builder.disk import tree
from mlflow_image.builder.layers import Layer
from mlflow_image.builder.place import Place, scratch
from mlflow_image.errors import Failure
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.samples import PACKER, built

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]


@pytest.fixture
def base(make_inputs: MakeInputs, checkout: Checkout) -> tuple[Layer, Job]:
    inputs = make_inputs()
    found = keys.of(inputs, checkout)[0]
    return found, Job("base", found.key, (), inputs, How(PACKER), checkout)


@pytest.mark.parametrize("remake", [True, False])
def test_a_layer_in_the_cache_is_made_again_only_on_request(
    base: tuple[Layer, Job], monkeypatch: pytest.MonkeyPatch, remake: bool
) -> None:
    made: list[str] = []

    def make_base(job: Job, place: Place) -> None:
        made.append(job.layer)

    monkeypatch.setitem(layer.MAKERS, "base", make_base)
    built([base[0]])
    make_layer.make_layer(*base, remake=remake)
    assert made == (["base"] if remake else [])
    assert base[0].built


def test_a_finished_layer_is_in_the_cache_with_its_record_and_logs(
    base: tuple[Layer, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_base(job: Job, place: Place) -> None:
        place.step.phase("the only phase")
        (place.result / "disk.qcow2").write_text("a disk")
        (place.logs / "made.log").write_text("a log")

    monkeypatch.setitem(layer.MAKERS, "base", make_base)
    make_layer.make_layer(*base)
    folder = base[0].directory
    record = layers.read_record(folder)
    assert record and [title for title, _ in record["phases"]] == ["the only phase"]
    assert (folder / "disk.qcow2").read_text() == "a disk"
    assert (folder / "logs" / "made.log").read_text() == "a log"
    assert base[0].built
    assert list(scratch().iterdir()) == []


def test_a_layer_that_fails_is_named_and_its_logs_stay(
    base: tuple[Layer, Job], monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setattr(tree, "write_repository", lambda *_: None)
    program("mmdebstrap", "echo 'E: a package is broken' >&2; exit 25")
    with pytest.raises(Failure) as caught:
        make_layer.make_layer(*base)
    failure = caught.value
    assert failure.what.startswith("the layer base could not be made: `")
    assert "E: a package is broken" in failure.evidence
    logs = Path(failure.remedy.removeprefix("full logs: "))
    assert "E: a package is broken" in (logs / "mmdebstrap.log").read_text()
    assert list(scratch().iterdir()) == []
