"""Of the recipe, what needs no VM: what is made anew, what is refused, what is needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import anaconda, assemble, build, inputs, layers, manifest, packer, rootless
from mlflow_image.errors import Failure, Refusals
from mlflow_image.inputs import Inputs

MakeInputs = Callable[..., Inputs]


def test_too_little_disk_and_memory_are_refused_at_once_with_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(packer, "free_memory_mib", lambda: 100)
    monkeypatch.setattr(build, "NEEDED_DISK_MIB", 10**9)
    with pytest.raises(Refusals) as refused:
        build.require_host()
    assert len(refused.value.faults) == 2
    assert "100 MiB are free" in refused.value.faults[1]


def test_anaconda_takes_more_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 20 << 30))
    build.require_host()
    with pytest.raises(Refusals, match="cannot build") as refused:
        build.require_host(anaconda.read_installer())
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

    monkeypatch.setattr(assemble, "make_base", make_base)
    base = stack[0]
    base.directory.mkdir(parents=True)
    (base.directory / layers.RECORD_NAME).write_text("{}")
    no_packer = packer.Packer(Path("/packer"), (1, 6, 6), "a test")
    assemble.make_layer(base, stack, wanted, assemble.How(no_packer), remake=remake)
    assert made == (["base"] if remake else [])
    assert base.built


def test_a_change_in_image_files_needs_no_package_and_no_wheel(make_inputs: MakeInputs) -> None:
    needed = inputs.needed_by({"image-files", "sealed"}, make_inputs())
    assert needed.files == set()
    inputs.fetch(needed, offline=True)


def test_a_stale_python_layer_needs_the_packages_too_but_can_do_without(
    make_inputs: MakeInputs,
) -> None:
    wanted, stale = make_inputs(), {"python", "image-files", "sealed"}
    needed = inputs.needed_by(stale, wanted)
    assert (needed.wheels, needed.packages) == (wanted.wheels, wanted.packages)
    needed = inputs.needed_by(stale, wanted, offline=True)
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)
    needed = inputs.needed_by(stale, replace(wanted, installer=anaconda.read_installer()))
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)


def test_an_image_that_breaks_its_contract_is_not_promoted(
    make_inputs: MakeInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_inputs()
    stack = layers.of(wanted)
    candidate = manifest.Candidate(tmp_path, {"os": "ubuntu-22.04", "image": "x"})
    monkeypatch.setattr(build.plan, "make", lambda *_: [])
    monkeypatch.setattr(build.plan, "table", lambda _: "")
    monkeypatch.setattr(build.plan, "outlook", lambda _: "")
    monkeypatch.setattr(build.manifest, "image_id", lambda *_: "x")
    monkeypatch.setattr(build.manifest, "complete", lambda *_: candidate)
    monkeypatch.setattr(build.promote, "existing", lambda *_: None)
    monkeypatch.setattr(build.promote, "into_dist", lambda *_: pytest.fail("it was promoted"))
    monkeypatch.setattr(build.packer, "find", lambda *_, **__: None)
    record = {"result": "failed", "summary": "1 failed, 41 passed", "tests": 41}
    monkeypatch.setattr(build.verify, "run", lambda *_: record)
    with pytest.raises(Failure, match="does not keep its contract: 1 failed, 41 passed") as caught:
        build.make(stack, wanted, build.Options())
    assert "not promoted into dist/" in caught.value.remedy
    assert manifest.read(tmp_path)["verification"]["result"] == "failed"
