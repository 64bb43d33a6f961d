"""The description of an image and its manifest are complete and true."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlflow_image.builder import describe, keys
from mlflow_image.builder.bake.about import about
from mlflow_image.builder.bake.layer import RAW_SUM_NAME
from mlflow_image.builder.layers import Layer
from mlflow_image.images import manifest, provenance
from mlflow_image.images.manifest import Disk, Python, Verification
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.samples import PACKER, built

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]


@pytest.fixture
def wanted(make_inputs: MakeInputs) -> Inputs:
    return make_inputs()


@pytest.fixture
def stack(wanted: Inputs, checkout: Checkout, program: Program) -> list[Layer]:
    """Finished layers, with a disk in the sealed one."""
    program("qemu-system-x86_64", "echo 'QEMU emulator version 7.2.9 (Debian 1:7.2)'")
    program("mmdebstrap", "exit 1")
    finished = built(keys.of(wanted, checkout), seconds=60.0)
    (finished[-1].directory / "disk.qcow2").write_bytes(b"disk")
    tarfile.open(finished[-2].directory / "tree.tar", "w").close()
    (finished[-1].directory / "raw.sha256").write_text("f" * 64 + "\n")
    return finished


def test_other_bytes_of_the_same_inputs_are_another_image(
    stack: list[Layer], wanted: Inputs
) -> None:
    before = describe.image_id(stack[-1], wanted)
    (stack[-1].directory / RAW_SUM_NAME).write_text("e" * 64 + "\n")
    assert describe.image_id(stack[-1], wanted) == replace(before, build="e" * 12)


def test_a_manifest_says_what_the_image_is_and_how_it_was_made(
    stack: list[Layer], wanted: Inputs
) -> None:
    candidate = describe.complete(stack, wanted, PACKER)
    found = candidate.manifest
    assert str(found.image) == "mlflow-ubuntu-22.04-x86_64-ffffffffffff"
    assert found.definition == wanted.definition.as_data()
    assert (found.mlflow, found.login, found.kernel) == ("3.17.2", "ubuntu", ("5.15",))
    assert found.python == Python("system", "3.10", "")
    assert found.keys == {layer.name: layer.key for layer in stack}
    assert found.seconds["base"] == {"total": 60.0, "phases": [["a phase", 60.0]]}
    assert found.disk == Disk("qcow2", 4, 4096, "f" * 64)
    assert set(found.inputs["apt"]) == {"bash=5.1", "linux-image-virtual=5.15"}
    assert found.inputs["wheels"]["mlflow-3.17.2-py3-none-any.whl"] == "b" * 64
    assert found.python_reason == "asked for"
    assert found.verification == Verification("not run")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.built_at)


def test_a_manifest_names_the_programs_that_made_the_image(
    stack: list[Layer], wanted: Inputs
) -> None:
    found = describe.complete(stack, wanted, PACKER).manifest.built_with
    assert (found["packer"], found["qemu"], found["mmdebstrap"]) == ("1.6.6", "7.2.9", "unknown")
    assert found["accelerator"] in ("kvm", "tcg")


def test_a_manifest_is_written_with_the_sealed_disk(stack: list[Layer], wanted: Inputs) -> None:
    candidate = describe.complete(stack, wanted, PACKER)
    assert candidate.disk == stack[-1].directory / "disk.qcow2"
    assert manifest.read(stack[-1].directory) == candidate.manifest
    names = set(candidate.documents)
    (wheel,) = [name for name in names if name.startswith("clients/mlflow_hdfs-")]
    assert names == {"settings-schema.json", "image-3.10.txt", "cloud-init.zip", wheel}


def test_an_earlier_verification_stays(stack: list[Layer], wanted: Inputs) -> None:
    first = describe.complete(stack, wanted, PACKER)
    passed = replace(first.manifest, verification=Verification("passed", tests=40))
    manifest.write(first.directory, passed)
    assert describe.complete(stack, wanted, PACKER).manifest.verification.passed


def test_the_manifest_repeats_what_the_image_says_about_itself(
    stack: list[Layer], wanted: Inputs
) -> None:
    said = about(wanted)
    found = describe.complete(stack, wanted, PACKER).manifest
    assert vars(said).items() <= vars(found).items()
    assert said.packages == {"boto3": "1.40.0", "mlflow": "3.17.2"}


def test_an_image_does_not_depend_on_the_commit(stack: list[Layer], wanted: Inputs) -> None:
    assert "git" not in vars(about(wanted))
    assert describe.complete(stack, wanted, PACKER).manifest.git == provenance.git()


def test_an_image_on_a_cloud_image_names_it_instead_of_packages(
    stack: list[Layer], wanted: Inputs
) -> None:
    image = CloudImage("https://a.example/r", "image.img", "d" * 64, "E" * 40, "keys.gpg")
    on_image = replace(wanted, packages=None, cloud_image=image)
    found = describe.complete(stack, on_image, PACKER).manifest
    assert found.inputs["apt"] == {}
    assert found.inputs["cloud_image"] == asdict(image)
    assert found.kernel == ()
