"""A build VM: QEMU's switches, what Packer is told, and the disc that the tree comes out on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder.bake import in_vm, packer
from mlflow_image.builder.bake.in_vm import Disks, How, Job
from mlflow_image.builder.bake.template import PackerBuild
from mlflow_image.builder.place import Place
from mlflow_image.host import qemu_img
from tests.unit.samples import PACKER


def test_a_disc_ends_after_its_last_written_block(tmp_path: Path) -> None:
    disc = tmp_path / "disc"
    with disc.open("wb") as file:
        file.write(b"a" * 8192)
        file.seek(1 << 20)
        file.write(b"b" * 4096)
        file.truncate(1 << 30)
    in_vm.cut_after_data(disc)
    assert (1 << 20) + 4096 <= disc.stat().st_size < 1 << 22
    assert disc.read_bytes()[:8192] == b"a" * 8192
    assert b"b" * 4096 in disc.read_bytes()


def test_an_empty_disc_becomes_an_empty_file(tmp_path: Path) -> None:
    disc = in_vm.sparse(tmp_path / "disc")
    in_vm.cut_after_data(disc)
    assert disc.stat().st_size == 0


def test_the_build_vm_has_no_network_but_ssh_on_the_loopback(place: Place) -> None:
    disks = Disks(place.work / "main", place.work / "payload", place.work / "handover")
    words = in_vm.qemu_args(disks, place, "bios")
    (network,) = [value for switch, value in words if switch == "-netdev"]
    assert "restrict=on" in network
    assert network.count("hostfwd=") == 1
    assert "hostfwd=tcp:127.0.0.1:" in network


@pytest.fixture
def job(place: Place) -> Job:
    base = place.work / "base.qcow2"
    raw = place.work / "base.raw"
    raw.write_bytes(bytes(1 << 20))
    qemu_img.to_qcow2(raw, base)
    return Job("python", base, {}, {"PYTHON_VERSION": "3.10"}, place, How(PACKER))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], PackerBuild]:
    """What Packer is told for a job; a stand-in takes its place."""
    builds: list[PackerBuild] = []

    def run(program: object, build: PackerBuild, *_: object, **__: object) -> None:
        builds.append(build)

    monkeypatch.setattr(packer, "run", run)

    def of(job: Job) -> PackerBuild:
        in_vm.run(job)
        return builds[-1]

    return of


def test_the_steps_of_the_layer_are_run_with_their_environment(
    told: Callable[[Job], PackerBuild], job: Job
) -> None:
    build = told(job)
    assert [Path(script).name for script in build.scripts] == [
        "10-python.sh",
        "19-hand-over-opt.sh",
    ]
    assert {"PYTHON_VERSION=3.10", "PAYLOAD=/run/payload"} <= set(build.environment)


def test_the_vm_runs_on_an_overlay_so_that_the_base_stays_as_it_is(
    told: Callable[[Job], PackerBuild], job: Job
) -> None:
    overlay = Path(told(job).overlay)
    assert qemu_img.backing_chain(overlay) == [overlay, job.base_disk]


def test_opt_is_a_file_system_that_nothing_can_write_to(
    told: Callable[[Job], PackerBuild], job: Job, tmp_path: Path
) -> None:
    build = told(replace(job, opt=tmp_path / "opt.ext4"))
    (drive,) = [value for _, value in build.qemu_args if "opt.ext4" in value]
    assert "readonly=on" in drive
    assert build.mounts[-1] == "mount -o ro /dev/disk/by-id/virtio-opt /opt"


def test_the_layer_that_makes_opt_has_no_disk_for_it(
    told: Callable[[Job], PackerBuild], job: Job
) -> None:
    build = told(job)
    assert not any("serial=opt" in value for _, value in build.qemu_args)
    assert not any("/opt" in command for command in build.mounts)
