"""Of a bake, what needs no VM: QEMU's switches, and the disc that the tree comes out on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image.builder import layers
from mlflow_image.builder.bake import in_vm, packer, payload
from mlflow_image.builder.bake.template import Bake
from mlflow_image.builder.disk import raw
from mlflow_image.inputs.gather import Inputs
from mlflow_image.progress import Step


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
    disc = tmp_path / "disc"
    with disc.open("wb") as file:
        file.truncate(1 << 30)
    in_vm.cut_after_data(disc)
    assert disc.stat().st_size == 0


def test_the_build_vm_has_no_network_but_ssh_on_the_loopback(tmp_path: Path) -> None:
    words = in_vm.qemu_args(tmp_path, tmp_path, tmp_path, tmp_path, None, tmp_path, "bios")
    (network,) = [value for switch, value in words if switch == "-netdev"]
    assert "restrict=on" in network
    assert network.count("hostfwd=") == 1
    assert "hostfwd=tcp:127.0.0.1:" in network


@pytest.fixture
def plan_of(
    tmp_path: Path, make_inputs: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch, step: Step
) -> Callable[..., Bake]:
    """What Packer is told to bake: called with the layer's number."""
    plans: list[Bake] = []
    monkeypatch.setattr(packer, "bake", lambda _, plan, *__, **___: plans.append(plan))
    monkeypatch.setattr(payload, "write_disc", lambda *_: tmp_path / "payload.iso")
    monkeypatch.setattr(raw, "overlay", lambda *_: None)
    no_packer = packer.Packer(Path("/packer"), (1, 6, 6), "a test")

    def plan(number: int, **options: Path) -> Bake:
        layer = layers.of(make_inputs())[number]
        places = (tmp_path / "base", {}, {}, tmp_path, tmp_path)
        in_vm.run(layer, *places, with_packer=no_packer, step=step, **options)
        return plans[-1]

    return plan


def test_a_layer_s_own_steps_are_run(plan_of: Callable[..., Bake]) -> None:
    assert [Path(script).name for script in plan_of(1).scripts] == [
        "10-python.sh",
        "19-hand-over-opt.sh",
    ]


def test_opt_is_a_file_system_that_nothing_can_write_to(
    plan_of: Callable[..., Bake], tmp_path: Path
) -> None:
    plan = plan_of(2, opt=tmp_path / "opt.ext4")
    (drive,) = [value for _, value in plan.qemu_args if "opt.ext4" in value]
    assert "readonly=on" in drive
    assert plan.mounts[-1] == "mount -o ro /dev/disk/by-id/virtio-opt /opt"


def test_what_makes_opt_has_none(plan_of: Callable[..., Bake]) -> None:
    plan = plan_of(1)
    assert not any("serial=opt" in value for _, value in plan.qemu_args)
    assert not any("/opt" in command for command in plan.mounts)
