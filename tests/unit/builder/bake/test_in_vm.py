"""A build VM: QEMU's arguments, Packer's input, and the disk that receives the layer."""

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


def test_a_handover_disk_is_cut_after_its_last_written_block(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.write(b"a" * 8192)
        file.seek(1 << 20)
        file.write(b"b" * 4096)
        file.truncate(1 << 30)
    in_vm.cut_after_data(disk)
    assert (1 << 20) + 4096 <= disk.stat().st_size < 1 << 22
    assert disk.read_bytes()[:8192] == b"a" * 8192
    assert b"b" * 4096 in disk.read_bytes()


def test_an_empty_handover_disk_becomes_an_empty_file(tmp_path: Path) -> None:
    disk = in_vm.sparse(tmp_path / "disk")
    in_vm.cut_after_data(disk)
    assert disk.stat().st_size == 0


def test_the_build_vm_has_no_network_except_ssh_on_loopback(place: Place) -> None:
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
def packer_build(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], PackerBuild]:
    """Runs a job with a stand-in for Packer; returns the build that Packer would get."""
    builds: list[PackerBuild] = []

    def run(program: object, build: PackerBuild, *_: object, **__: object) -> None:
        builds.append(build)

    monkeypatch.setattr(packer, "run", run)

    def of(job: Job) -> PackerBuild:
        in_vm.run(job)
        return builds[-1]

    return of


def test_packer_gets_the_steps_of_the_layer_and_their_environment(
    packer_build: Callable[[Job], PackerBuild], job: Job
) -> None:
    build = packer_build(job)
    assert [Path(script).name for script in build.scripts] == [
        "10-python.sh",
        "19-hand-over-opt.sh",
    ]
    assert {"PYTHON_VERSION=3.10", "PAYLOAD=/run/payload"} <= set(build.environment)


def test_the_vm_runs_on_an_overlay_of_the_base_disk(
    packer_build: Callable[[Job], PackerBuild], job: Job
) -> None:
    overlay = Path(packer_build(job).overlay)
    assert qemu_img.backing_chain(overlay) == [overlay, job.base_disk]


def test_opt_is_mounted_from_a_read_only_disk(
    packer_build: Callable[[Job], PackerBuild], job: Job, tmp_path: Path
) -> None:
    build = packer_build(replace(job, opt=tmp_path / "opt.ext4"))
    (drive,) = [value for _, value in build.qemu_args if "opt.ext4" in value]
    assert "readonly=on" in drive
    assert build.mounts[-1] == "mount -o ro /dev/disk/by-id/virtio-opt /opt"


def test_a_job_without_opt_has_no_disk_for_it(
    packer_build: Callable[[Job], PackerBuild], job: Job
) -> None:
    build = packer_build(job)
    assert not any("serial=opt" in value for _, value in build.qemu_args)
    assert not any("/opt" in command for command in build.mounts)


def test_a_failed_write_of_the_host_pauses_the_build_vm_and_qemu_can_be_asked(
    place: Place,
) -> None:
    disks = Disks(place.work / "main", place.work / "payload", place.work / "handover")
    words = in_vm.qemu_args(disks, place, "bios")
    written = [value for name, value in words if name == "-drive" and "readonly" not in value]
    assert len(written) == 2
    assert all("werror=stop" in value for value in written)
    assert ("-qmp", "unix:qmp.sock,server=on,wait=off") in words
