"""The order of a build, as far as it needs no VM: what is fetched, what is not promoted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder import keys, layers, plan, recipe
from mlflow_image.builder.bake.about import settings_schema
from mlflow_image.builder.recipe import Options
from mlflow_image.checks import contract
from mlflow_image.errors import Failure
from mlflow_image.images import find, manifest
from mlflow_image.images.manifest import Candidate, Verification
from mlflow_image.inputs import anaconda, gather
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit import samples

MakeInputs = Callable[..., Inputs]


def test_a_change_in_image_files_needs_no_package_and_no_wheel(make_inputs: MakeInputs) -> None:
    needed = gather.needed_by({"image-files", "sealed"}, make_inputs())
    assert needed.files == set()
    gather.fetch(needed, offline=True)


def test_a_stale_python_layer_needs_the_packages_too_but_works_offline_without(
    make_inputs: MakeInputs,
) -> None:
    wanted, stale = make_inputs(), {"python", "image-files", "sealed"}
    needed = gather.needed_by(stale, wanted)
    assert (needed.wheels, needed.packages) == (wanted.wheels, wanted.packages)
    needed = gather.needed_by(stale, wanted, offline=True)
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)
    needed = gather.needed_by(stale, replace(wanted, installer=anaconda.read_installer("anaconda")))
    assert (needed.wheels, needed.packages) == (wanted.wheels, None)


@pytest.mark.parametrize("result", ["passed", "failed"])
def test_only_an_image_that_keeps_its_contract_is_promoted(
    make_inputs: MakeInputs,
    checkout: Checkout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    result: str,
) -> None:
    stack = samples.built(keys.of(make_inputs(), checkout))
    schema = settings_schema()
    candidate = Candidate(tmp_path, samples.manifest(), {find.SCHEMA_NAME: schema})
    candidate.disk.write_bytes(b"a disk")
    verification = Verification(result, tests=41, summary="1 failed, 41 passed", seconds=9.0)
    monkeypatch.setattr(contract, "run", lambda *_: verification)
    options = Options(checkout=checkout)
    if result == "passed":
        image = recipe.verify_and_promote(candidate, stack, options)
        assert image.manifest and image.manifest.verification == verification
        return
    with pytest.raises(Failure, match="breaks its contract: 1 failed, 41 passed") as caught:
        recipe.verify_and_promote(candidate, stack, options)
    assert "not promoted into dist/" in caught.value.remedy
    assert not checkout.dist.exists()
    found = manifest.read(tmp_path)
    assert found and found.verification == verification


def test_an_altered_tree_is_discarded_before_a_stale_layer_reads_it(
    make_inputs: MakeInputs, checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = samples.built(keys.of(make_inputs(), checkout))
    python = stack[1]
    tree = python.directory / "tree.tar"
    tree.write_text("a tree")
    record = python.record(60.0, [], python.directory)
    (python.directory / layers.RECORD_NAME).write_text(json.dumps(record))
    stat = tree.stat()
    tree.write_text("A tree")
    os.utime(tree, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert not recipe.discard_altered(plan.decide(stack)), "nothing is stale: nothing is read"
    assert recipe.discard_altered(plan.decide(stack, "sealed"))
    assert "the layer python was altered in the cache" in capsys.readouterr().err
    rows = plan.decide(stack, "sealed")
    assert [row.layer.name for row in rows if not row.cached] == ["python", "sealed"]
