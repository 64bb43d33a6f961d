"""assemble: each layer keeps its part of the tree; the sealed disk is made of all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.builder import layers, make_layer
from mlflow_image.builder.bake import in_vm, on_host, packer, payload
from mlflow_image.builder.disk import raw, tree
from mlflow_image.builder.layers import Layer
from mlflow_image.errors import Failure
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from mlflow_image.progress import Step

MakeInputs = Callable[..., Inputs]
Make = Callable[..., dict[str, str]]
Program = Callable[[str, str], Path]
PACKER = packer.Packer(Path("/packer"), (1, 6, 6), "a test")


@pytest.fixture
def place(tmp_path: Path) -> make_layer.Place:
    found = make_layer.Place(tmp_path / "work", tmp_path / "work" / "result", tmp_path / "logs")
    for folder in (found.work, found.result, found.logs):
        folder.mkdir()
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a stand-in of Packer was asked to bake; it hands something over."""
    found: list[dict[str, Any]] = []

    def run(
        layer: Layer,
        base_disk: Path,
        files: dict[str, Path],
        _: object,
        work: Path,
        *__: object,
        **k: Any,
    ) -> Path:
        found.append({"layer": layer.name, "base_disk": base_disk, "files": files, **k})
        (work / "handover").write_text(f"{layer.name} by the guest")
        return work / "handover"

    def file_system(tar: Path, folder: str, target: Path, _: Path) -> None:
        target.write_text(f"/{folder} of {tar.read_text()}")

    monkeypatch.setattr(in_vm, "run", run)
    monkeypatch.setattr(raw, "file_system", file_system)
    monkeypatch.setattr(payload, "environment_files", lambda *_: {"environment.sh": Path("/e")})
    monkeypatch.setattr(on_host, "environment", lambda *_: None)
    return found


@pytest.fixture
def make(
    make_inputs: MakeInputs, place: make_layer.Place, step: Step, asked: list[dict[str, Any]]
) -> Make:
    """Makes a layer, with some inputs changed; returns what it keeps: name -> content."""

    def of(name: str, **changed: Any) -> dict[str, str]:
        wanted = replace(make_inputs(), **changed)
        stack = layers.of(wanted)
        makers = {"python": make_layer.make_python, "image-files": make_layer.make_image_files}
        number = [layer.name for layer in stack].index(name)
        how = make_layer.How(PACKER)
        makers[name](stack[number], stack[:number], wanted, place, step, how)
        return {path.name: path.read_text() for path in place.result.iterdir()}

    return of


def test_opt_is_baked_where_this_host_cannot_make_it(
    make: Make, make_inputs: MakeInputs, asked: list[dict[str, Any]]
) -> None:
    assert make("python") == {
        "tree.tar": "python by the guest",
        "opt.ext4": "/opt of python by the guest",
    }
    assert asked[0]["base_disk"] == layers.of(make_inputs())[0].directory / "disk.qcow2"
    assert set(asked[0]["files"]) == {"environment.sh", "hand-over.sh"}


def test_opt_takes_no_vm_where_this_host_can_make_it(
    make: Make,
    place: make_layer.Place,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place.work / "opt-mlflow.tar").write_text("python by the host")
    monkeypatch.setattr(on_host, "environment", lambda *_: place.work / "opt-mlflow.tar")
    assert make("python") == {
        "tree.tar": "python by the host",
        "opt.ext4": "/opt of python by the host",
    }
    assert not asked


def test_anaconda_s_python_is_not_known_here(
    make: Make, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_host, "environment", lambda *_: pytest.fail("it was asked for"))
    make("python", installer=anaconda.read_installer())
    assert [in_vm["layer"] for in_vm in asked] == ["python"]


def test_the_last_vm_has_the_base_s_disk_and_the_python_layer_as_opt(
    make: Make, make_inputs: MakeInputs, asked: list[dict[str, Any]]
) -> None:
    assert make("image-files") == {"tree.tar": "image-files by the guest"}
    stack = layers.of(make_inputs())
    assert asked[0]["base_disk"] == stack[0].directory / "disk.qcow2"
    assert asked[0]["opt"] == stack[1].directory / "opt.ext4"
    assert set(asked[0]["files"]) == {"image_files.tar", "mlflow-image.json", "hand-over.sh"}


def test_the_sealed_disk_is_made_of_what_each_layer_handed_over(
    make_inputs: MakeInputs, place: make_layer.Place, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = layers.of(make_inputs())
    given: list[Path] = []

    def build(tars: list[Path], *_: object) -> Path:
        given.extend(tars)
        (place.work / "disk.raw").touch()
        return place.work / "disk.raw"

    monkeypatch.setattr(raw, "build", build)
    monkeypatch.setattr(raw, "to_qcow2", lambda *_, **__: None)
    make_layer.make_sealed(stack[3], stack[:3], make_inputs(), place, step, make_layer.How(PACKER))
    assert given == [stack[1].directory / "tree.tar", stack[2].directory / "tree.tar"]


def test_a_layer_that_fails_is_named_and_its_logs_stay(
    make_inputs: MakeInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setattr(make_layer, "HERE", Checkout(tmp_path))
    monkeypatch.setenv("MLFLOW_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tree, "write_repository", lambda *_: None)
    program("mmdebstrap", "echo 'E: a package is broken' >&2; exit 25")
    wanted = make_inputs()
    stack = layers.of(wanted)
    with pytest.raises(Failure) as caught:
        make_layer.make_layer(stack[0], stack, wanted, make_layer.How(PACKER))
    failure = caught.value
    assert failure.what.startswith("the layer base could not be made: `")
    assert "E: a package is broken" in failure.evidence
    logs = Path(failure.remedy.removeprefix("full logs: "))
    assert "E: a package is broken" in (logs / "mmdebstrap.log").read_text()
    assert list((tmp_path / "cache" / "work").iterdir()) == []
