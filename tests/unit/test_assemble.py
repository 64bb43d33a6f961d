"""assemble: a baked layer keeps what it handed over; the sealed disk is made of all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_image import assemble, bake, disk, layers, packer, payload, tree
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs
from mlflow_image.layers import Layer
from mlflow_image.progress import Step

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]
PACKER = packer.Packer(Path("/packer"), (1, 6, 6), "a test")


@pytest.fixture
def place(tmp_path: Path) -> assemble.Place:
    found = assemble.Place(tmp_path / "work", tmp_path / "work" / "result", tmp_path / "logs")
    for folder in (found.work, found.result, found.logs):
        folder.mkdir()
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a stand-in of Packer was asked to bake; it makes a disk and hands something over."""
    found: list[dict[str, Any]] = []

    def run(
        layer: Layer,
        parent: Path,
        files: dict[str, Path],
        _: object,
        work: Path,
        *__: object,
        **k: Any,
    ) -> tuple[Path, Path]:
        found.append({"layer": layer.name, "parent": parent, "files": files, **k})
        (work / "baked").write_text("a disk")
        with (work / "handover").open("wb") as file:
            file.write(layer.name.encode())
            file.truncate(1 << 30)
        return work / "baked", work / "handover"

    monkeypatch.setattr(bake, "run", run)
    monkeypatch.setattr(payload, "python_files", lambda *_: {})
    return found


def baked(name: str, wanted: Inputs, place: assemble.Place, step: Step) -> set[str]:
    """Bake a layer; returns the names of what it keeps."""
    stack = layers.of(wanted)
    number = [layer.name for layer in stack].index(name)
    options = {"firmware": "bios", "keep_on_error": False}
    assemble.bake_layer(stack[number], stack[number - 1], wanted, place, step, PACKER, **options)
    return {path.name for path in place.result.iterdir()}


def test_the_python_layer_keeps_its_disk_and_what_it_handed_over(
    make_inputs: MakeInputs, place: assemble.Place, step: Step, asked: list[dict[str, Any]]
) -> None:
    assert baked("python", make_inputs(), place, step) == {"disk.qcow2", "tree.tar"}
    tar = place.result / "tree.tar"
    assert tar.read_bytes().rstrip(b"\0") == b"python"
    assert tar.stat().st_size < 1 << 20
    assert asked[0]["keep_disk"]


def test_of_the_last_layer_only_the_tree_is_kept(
    make_inputs: MakeInputs, place: assemble.Place, step: Step, asked: list[dict[str, Any]]
) -> None:
    assert baked("image-files", make_inputs(), place, step) == {"tree.tar"}
    assert not asked[0]["keep_disk"]
    assert asked[0]["parent"] == layers.of(make_inputs())[1].directory / "disk.qcow2"
    called = {"hand-over.sh", "opt-state.sh"}
    assert set(asked[0]["files"]) == {"image_files.tar", "mlflow-image.json", *called}


def test_the_sealed_disk_is_made_of_what_each_layer_handed_over(
    make_inputs: MakeInputs, place: assemble.Place, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = layers.of(make_inputs())
    given: list[Path] = []

    def build(tars: list[Path], *_: object) -> Path:
        given.extend(tars)
        (place.work / "disk.raw").touch()
        return place.work / "disk.raw"

    monkeypatch.setattr(disk, "build", build)
    monkeypatch.setattr(disk, "to_qcow2", lambda *_, **__: None)
    assemble.make_sealed(stack[3], stack[:3], make_inputs(), place, step)
    assert given == [stack[1].directory / "tree.tar", stack[2].directory / "tree.tar"]


def test_a_layer_that_fails_is_named_and_its_logs_stay(
    make_inputs: MakeInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setattr(assemble, "STATE", tmp_path / "state")
    monkeypatch.setenv("MLFLOW_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tree, "write_repository", lambda *_: None)
    program("mmdebstrap", "echo 'E: a package is broken' >&2; exit 25")
    wanted = make_inputs()
    stack = layers.of(wanted)
    with pytest.raises(Failure) as caught:
        assemble.make_layer(stack[0], stack, wanted, PACKER)
    failure = caught.value
    assert failure.what.startswith("the layer base could not be made: `")
    assert "E: a package is broken" in failure.evidence
    logs = Path(failure.remedy.removeprefix("full logs: "))
    assert "E: a package is broken" in (logs / "mmdebstrap.log").read_text()
    assert list((tmp_path / "cache" / "work").iterdir()) == []
