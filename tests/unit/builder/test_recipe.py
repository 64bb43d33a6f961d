"""Of the recipe, what needs no VM: what is made anew, what is refused, what is needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder import layers, make_layer, recipe
from mlflow_image.builder.bake import packer
from mlflow_image.errors import Failure, Refusals
from mlflow_image.host import rootless
from mlflow_image.images import manifest
from mlflow_image.inputs import anaconda, gather
from mlflow_image.inputs.gather import Inputs

MakeInputs = Callable[..., Inputs]


def test_too_little_disk_and_memory_are_refused_at_once_with_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(packer, "free_memory_mib", lambda: 100)
    monkeypatch.setattr(recipe, "NEEDED_DISK_MIB", 10**9)
    with pytest.raises(Refusals) as refused:
        recipe.require_host()
    assert len(refused.value.faults) == 2
    assert "100 MiB are free" in refused.value.faults[1]


def test_anaconda_takes_more_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 20 << 30))
    recipe.require_host()
    with pytest.raises(Refusals, match="cannot build") as refused:
        recipe.require_host(anaconda.read_installer())
    assert "MiB are needed" in refused.value.faults[0]


@pytest.mark.parametrize("remake", [True, False])
def test_a_layer_that_is_there_is_made_again_only_when_asked_for(
    make_inputs: MakeInputs, checkout: Path, monkeypatch: pytest.MonkeyPatch, remake: bool
) -> None:
    wanted = make_inputs()
    stack = layers.of(wanted)
    made = []

    def make_base(layer: layers.Layer, *_: object) -> None:
        made.append(layer.name)

    monkeypatch.setattr(make_layer, "make_base", make_base)
    base = stack[0]
    base.directory.mkdir(parents=True)
    (base.directory / layers.RECORD_NAME).write_text("{}")
    no_packer = packer.Packer(Path("/packer"), (1, 6, 6), "a test")
    make_layer.make_layer(base, stack, wanted, make_layer.How(no_packer), remake=remake)
    assert made == (["base"] if remake else [])
    assert base.built


def test_a_change_in_image_files_needs_no_package_and_no_wheel(make_inputs: MakeInputs) -> None:
    needed = gather.needed_by({"image-files", "sealed"}, make_inputs())
    assert needed.files == set()
    gather.fetch(needed, offline=True)


def test_a_stale_python_layer_needs_the_packages_too_but_can_do_without(
    make_inputs: MakeInputs,
) -> None:
    wanted, stale = make_inputs(), {"python", "image-files", "sealed"}
    needed = gather.needed_by(stale, wanted)
    assert (needed.wheels, needed.packages) == (wanted.wheels, wanted.packages)
    needed = gather.needed_by(stale, wanted, offline=True)
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)
    needed = gather.needed_by(stale, replace(wanted, installer=anaconda.read_installer()))
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)


def test_an_image_that_breaks_its_contract_is_not_promoted(
    make_inputs: MakeInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_inputs()
    stack = layers.of(wanted)
    candidate = manifest.Candidate(tmp_path, {"os": "ubuntu-22.04", "image": "x"})
    monkeypatch.setattr(recipe.plan, "make", lambda *_: [])
    monkeypatch.setattr(recipe.plan, "table", lambda _: "")
    monkeypatch.setattr(recipe.plan, "outlook", lambda _: "")
    monkeypatch.setattr(recipe.manifest, "image_id", lambda *_: "x")
    monkeypatch.setattr(recipe.manifest, "complete", lambda *_: candidate)
    monkeypatch.setattr(recipe.promote, "existing", lambda *_: None)
    monkeypatch.setattr(recipe.promote, "into_dist", lambda *_: pytest.fail("it was promoted"))
    monkeypatch.setattr(recipe.packer, "find", lambda *_, **__: None)
    record = {"result": "failed", "summary": "1 failed, 41 passed", "tests": 41}
    monkeypatch.setattr(recipe.contract, "run", lambda *_: record)
    with pytest.raises(Failure, match="does not keep its contract: 1 failed, 41 passed") as caught:
        recipe.make(stack, wanted, recipe.Options())
    assert "not promoted into dist/" in caught.value.remedy
    assert manifest.read(tmp_path)["verification"]["result"] == "failed"
