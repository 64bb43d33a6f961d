"""Each layer keeps its part of the tree; the sealed disk is made of all parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.builder import keys
from mlflow_image.builder.bake import in_vm, layer, on_host, payload
from mlflow_image.builder.bake.about import about
from mlflow_image.builder.bake.in_vm import How
from mlflow_image.builder.bake.layer import Job
from mlflow_image.builder.disk import raw
from mlflow_image.builder.place import Place
from mlflow_image.host import qemu_img
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import Checkout
from tests.unit.samples import NAMES, PACKER

MakeInputs = Callable[..., Inputs]


@pytest.fixture
def job(make_inputs: MakeInputs, checkout: Checkout) -> Callable[..., Job]:
    """The job for a layer, with some inputs changed: job("python", installer=...)."""

    def of(name: str, **changed: Any) -> Job:
        inputs = replace(make_inputs(), **changed)
        stack = keys.of(inputs, checkout)
        number = NAMES.index(name)
        below = tuple(one.directory for one in stack[:number])
        return Job(name, stack[number].key, below, inputs, How(PACKER), checkout)

    return of


@pytest.fixture
def in_vms(monkeypatch: pytest.MonkeyPatch) -> list[in_vm.Job]:
    """The jobs that a stand-in for the build VM was given; it hands a file over."""
    found: list[in_vm.Job] = []

    def run(job: in_vm.Job) -> Path:
        found.append(job)
        handover = job.place.work / "handover"
        handover.write_text(f"{job.layer} made in a VM")
        return handover

    def file_system(tar: Path, folder: str, target: Path, _: Path) -> None:
        target.write_text(f"/{folder} of {tar.read_text()}")

    monkeypatch.setattr(in_vm, "run", run)
    monkeypatch.setattr(raw, "file_system", file_system)
    monkeypatch.setattr(payload, "environment_files", lambda *_: {"environment.sh": Path("/e")})
    monkeypatch.setattr(on_host, "environment", lambda *_: None)
    return found


def kept(place: Place) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.result.iterdir()}


def test_opt_is_made_in_a_vm_where_the_chroot_fails(
    job: Callable[..., Job], place: Place, in_vms: list[in_vm.Job]
) -> None:
    python = job("python")
    layer.make_python(python, place)
    assert kept(place) == {
        "tree.tar": "python made in a VM",
        "opt.ext4": "/opt of python made in a VM",
    }
    assert in_vms[0].base_disk == python.below[0] / "disk.qcow2"
    assert set(in_vms[0].files) == {"environment.sh", "hand-over.sh"}


def test_opt_takes_no_vm_where_the_chroot_works(
    job: Callable[..., Job],
    place: Place,
    in_vms: list[in_vm.Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place.work / "opt-mlflow.tar").write_text("python made on the host")
    monkeypatch.setattr(on_host, "environment", lambda *_: place.work / "opt-mlflow.tar")
    layer.make_python(job("python"), place)
    assert kept(place)["tree.tar"] == "python made on the host"
    assert not in_vms


@pytest.mark.parametrize("distribution", anaconda.WITH_INSTALLER)
@pytest.mark.parametrize("keep", [True, False])
def test_a_distribution_is_always_installed_in_a_vm(
    job: Callable[..., Job],
    place: Place,
    in_vms: list[in_vm.Job],
    monkeypatch: pytest.MonkeyPatch,
    distribution: str,
    keep: bool,
) -> None:
    monkeypatch.setattr(on_host, "environment", lambda *_: pytest.fail("the chroot was used"))
    installer = anaconda.read_installer(distribution)
    definition = Definition(keep_distribution=keep)
    layer.make_python(job("python", installer=installer, definition=definition), place)
    assert [one.layer for one in in_vms] == ["python"]
    expected = {
        "DISTRIBUTION_NAME": installer.name,
        "DISTRIBUTION_PREFIX": f"/opt/{distribution}3",
        "INSTALLER_SHA256": installer.sha256,
        "INSTALLED_BYTES": str(installer.installed_bytes),
        "KEEP_DISTRIBUTION": "true" if keep else "false",
    }
    assert in_vms[0].settings.items() >= expected.items()


def test_the_last_vm_has_the_base_disk_and_the_python_layer_as_opt(
    job: Callable[..., Job], place: Place, in_vms: list[in_vm.Job]
) -> None:
    files = job("image-files")
    layer.make_image_files(files, place)
    assert kept(place) == {"tree.tar": "image-files made in a VM"}
    assert in_vms[0].base_disk == files.below[0] / "disk.qcow2"
    assert in_vms[0].opt == files.below[1] / "opt.ext4"
    assert set(in_vms[0].files) == {"image_files.tar", "mlflow-image.json", "hand-over.sh"}


def test_the_image_carries_what_is_in_its_key_and_no_commit(
    job: Callable[..., Job], place: Place, in_vms: list[in_vm.Job]
) -> None:
    files = job("image-files")
    layer.make_image_files(files, place)
    carried = json.loads(in_vms[0].files["mlflow-image.json"].read_text())
    assert carried.pop("layer_key") == files.key
    assert keys.flat(carried).items() <= keys.of(files.inputs, files.checkout)[2].parts.items()
    assert carried["os"] == about(files.inputs).os


def test_the_sealed_disk_is_made_of_what_each_layer_handed_over(
    job: Callable[..., Job], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path] = []

    def build(tars: list[Path], *_: object) -> Path:
        given.extend(tars)
        (place.work / "disk.raw").write_bytes(bytes(1 << 20))
        return place.work / "disk.raw"

    monkeypatch.setattr(raw, "build", build)
    sealed = job("sealed")
    layer.make_sealed(sealed, place)
    assert given == [below / "tree.tar" for below in sealed.below[1:]]
    assert qemu_img.info(place.result / "disk.qcow2")["virtual-size"] == 1 << 20
    assert len((place.result / layer.RAW_SUM_NAME).read_text()) == 65
