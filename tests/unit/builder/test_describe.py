"""manifest: what is written about an image is complete and true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.builder import layers
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.layers import Layer
from mlflow_image.images import manifest
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.builder.test_layers import built

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]
PACKER = Packer(Path("packer"), (1, 6, 6), "a test")


@pytest.fixture
def wanted(make_inputs: MakeInputs) -> Inputs:
    return make_inputs()


@pytest.fixture
def stack(wanted: Inputs, checkout: Path, program: Program) -> list[Layer]:
    """Finished layers, with a disk in the sealed one."""
    program("qemu-system-x86_64", "echo 'QEMU emulator version 7.2.9 (Debian 1:7.2)'")
    program("mmdebstrap", "exit 1")
    finished = built(layers.of(wanted), seconds=60.0)
    (finished[-1].directory / "disk.qcow2").write_bytes(b"disk")
    (finished[-1].directory / "raw.sha256").write_text("f" * 64 + "\n")
    return finished


def test_what_was_baked_again_with_other_bytes_is_another_image(
    stack: list[Layer], wanted: Inputs
) -> None:
    before = manifest.image_id(stack[-1], wanted)
    (stack[-1].directory / manifest.RAW_SUM_NAME).write_text("e" * 64 + "\n")
    assert manifest.image_id(stack[-1], wanted) == before.replace("f" * 12, "e" * 12) != before


def test_a_manifest_says_what_the_image_is_and_how_it_was_made(
    stack: list[Layer], wanted: Inputs
) -> None:
    candidate = manifest.complete(stack, wanted, PACKER)
    said = candidate.manifest
    assert said["image"] == "mlflow-ubuntu-22.04-x86_64-ffffffffffff"
    assert said["definition"] == wanted.definition.as_data()
    assert said["mlflow"] == "3.17.2"
    assert said["python"] == {
        "distribution": "system",
        "version": "3.10",
        "reason": "asked for",
        "terms": "",
    }
    assert said["kernel"] == ["5.15"]
    assert said["keys"] == {layer.name: layer.key for layer in stack}
    assert said["seconds"]["base"] == {"total": 60.0, "phases": [["a phase", 60.0]]}
    assert said["disk"] == {
        "format": "qcow2",
        "bytes": 4,
        "virtual_mib": 4096,
        "raw_sha256": "f" * 64,
    }
    assert set(said["inputs"]["apt"]) == {"bash=5.1", "linux-image-virtual=5.15"}
    assert said["inputs"]["wheels"]["mlflow-3.17.2-py3-none-any.whl"] == "b" * 64
    assert said["verification"] == {"result": "not run"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["built_at"])


def test_a_manifest_names_the_programs_that_made_the_image(
    stack: list[Layer], wanted: Inputs
) -> None:
    said = manifest.complete(stack, wanted, PACKER).manifest["built_with"]
    assert (said["packer"], said["qemu"], said["mmdebstrap"]) == ("1.6.6", "7.2.9", "unknown")
    assert said["accelerator"] in ("kvm", "tcg")


def test_a_manifest_lies_beside_the_sealed_disk(stack: list[Layer], wanted: Inputs) -> None:
    candidate = manifest.complete(stack, wanted, PACKER)
    assert candidate.disk == stack[-1].directory / "disk.qcow2"
    assert manifest.read(stack[-1].directory) == json.loads(json.dumps(candidate.manifest))
    assert not candidate.verified


def test_an_earlier_verification_stays(stack: list[Layer], wanted: Inputs) -> None:
    first = manifest.complete(stack, wanted, PACKER)
    passed = {**first.manifest, "verification": {"result": "passed", "tests": 40}}
    manifest.write(first.directory, passed)
    assert manifest.complete(stack, wanted, PACKER).verified


def test_the_image_itself_carries_the_same_description(stack: list[Layer], wanted: Inputs) -> None:
    about = manifest.about(stack[2], wanted)
    said = manifest.complete(stack, wanted, PACKER).manifest
    assert about["layer_key"] == stack[2].key
    differing = {key for key in about if about[key] != said[key]}
    assert differing == {"layer_key"}
    assert about["packages"] == {"boto3": "1.40.0", "mlflow": "3.17.2"}


def test_the_settings_schema_is_the_one_that_ships_in_the_image() -> None:
    schema = manifest.settings_schema()
    assert isinstance(schema["properties"]["schema_version"]["const"], int)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    identity = ("-c", "user.name=x", "-c", "user.email=x@y.z")
    command.run(["git", "init", "-q", folder])
    (folder / "file").write_text("one")
    command.run(["git", "-C", folder, "add", "file"])
    command.run(["git", "-C", folder, *identity, "commit", "-q", "-m", "one"])
    monkeypatch.setattr(manifest, "HERE", Checkout(folder))
    return folder


def test_the_commit_is_named_and_whether_anything_differs_from_it(repository: Path) -> None:
    commit = (repository / ".git" / "HEAD").read_text().split()[1]
    head = (repository / ".git" / commit).read_text().strip()
    assert manifest.git() == {"commit": head, "clean": True}
    (repository / "file").write_text("two")
    assert manifest.git() == {"commit": head, "clean": False}


def test_sources_without_git_are_said_to_have_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "HERE", Checkout(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert manifest.git() == {"commit": None, "clean": False}


def test_a_missing_or_broken_manifest_reads_as_none(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == {}
    (tmp_path / "manifest.json").write_text("{")
    assert manifest.read(tmp_path) == {}


def test_an_image_on_a_cloud_image_names_it_where_others_name_packages(
    stack: list[Layer], wanted: Inputs
) -> None:
    image = CloudImage("https://a.example/r", "image.img", "d" * 64, "E" * 40, "keys.gpg")
    said = manifest.complete(stack, replace(wanted, packages=None, cloud_image=image), PACKER)
    assert said.manifest["inputs"]["apt"] == {}
    assert said.manifest["inputs"]["cloud_image"] == asdict(image)
    assert said.manifest["kernel"] == []
