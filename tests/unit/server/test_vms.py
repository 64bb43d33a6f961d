"""VMs with a name: created once, found again, removed completely; QEMU does not run here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlflow_image import paths
from mlflow_image.errors import Failure, Refusal
from mlflow_image.host import qemu_img
from mlflow_image.images.find import Image
from mlflow_image.server import ready, vms
from mlflow_image.server.user_data import UserData
from mlflow_image.server.vms import Options
from mlflow_image.vm import qemu, seed
from mlflow_image.vm.machine import Machine

SMALL = Options(memory_mib=512)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "HERE", paths.Checkout(tmp_path))
    monkeypatch.setattr(Machine, "start", lambda *_: None)
    # Other tests run these programs; here they would take 0.2 s for each VM.
    monkeypatch.setattr(qemu, "check_disk", lambda *_: None)
    monkeypatch.setattr(qemu_img, "overlay", lambda *_, **__: None)
    monkeypatch.setattr(seed, "make_key", lambda *_: "ssh-ed25519 key")
    monkeypatch.setattr(seed, "write_iso", lambda *_: None)
    return tmp_path / ".mlflow-image"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    disk = tmp_path / "disk.qcow2"
    disk.touch()
    return Image("an-image", tmp_path, disk, None)


def test_a_vm_is_found_again_by_its_name(image: Image) -> None:
    vms.create("left", image, UserData(b"x", guest_port=9000), SMALL)
    found = vms.find("left")
    assert found.record.image == "an-image"
    assert found.machine.spec.forwards == {9000: 0}
    assert found.machine.spec.hostname == "left"
    assert found.condition == "stopped"
    assert [vm.name for vm in vms.find_all()] == ["left"]


def test_settings_with_another_port_than_was_known_are_forwarded(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = vms.create("left", image, UserData(b"x"), SMALL)
    moved: list[tuple[int, int]] = []
    monkeypatch.setattr(ready, "wait", lambda *_, **__: "http://10.0.2.15:9000")
    monkeypatch.setattr(Machine, "redirect", lambda _, old, new: moved.append((old, new)))
    assert vms.wait_until_ready(vm, lambda _: None) == "http://10.0.2.15:9000"
    assert moved == [(8000, 9000)]
    assert vms.find("left").record.guest_port == 9000


def test_a_name_in_use_is_refused(image: Image) -> None:
    vms.create("left", image, UserData(b"x"), SMALL)
    with pytest.raises(Refusal, match="already exists") as refusal:
        vms.create("left", image, UserData(b"x"), SMALL)
    assert "`invoke down --name left`" in refusal.value.remedy


def test_a_vm_that_another_command_uses_is_refused(image: Image) -> None:
    with vms.locked("left"), pytest.raises(Refusal, match="another command"):
        vms.create("left", image, UserData(b"x"), SMALL)
    assert vms.find_all() == []


@pytest.mark.parametrize("name", ["", "-x", "Left", "a_b", "../up", "x" * 64, "a.b"])
def test_a_name_that_is_not_a_host_name_is_refused(name: str) -> None:
    with pytest.raises(Refusal, match="is not a valid VM name"):
        vms.check_name(name)


def test_a_vm_that_does_not_start_leaves_nothing(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Machine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Machine, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vms.create("left", image, UserData(b"x"), SMALL)
    assert not vms.folder_of("left").exists()


def test_removing_twice_is_not_an_error(image: Image) -> None:
    vms.create("left", image, UserData(b"x"), SMALL)
    assert vms.remove("left")
    assert not vms.remove("left")
    assert image.disk.exists()


def test_an_incomplete_vm_is_reported_and_can_be_removed() -> None:
    vms.folder_of("half").mkdir(parents=True)
    with pytest.raises(Refusal, match="was interrupted"):
        vms.find("half")
    assert vms.remove("half")


def test_an_unknown_vm_is_refused_with_the_names_that_exist(image: Image) -> None:
    vms.create("left", image, UserData(b"x"), SMALL)
    with pytest.raises(Refusal, match="no VM named right") as refusal:
        vms.find("right")
    assert "left" in refusal.value.remedy


def test_the_whole_backing_chain_of_a_vm_is_protected(image: Image, tmp_path: Path) -> None:
    layer = tmp_path / "layer.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, image.disk, "64M"], check=True)
    subprocess.run([*create, "-F", "qcow2", "-b", image.disk, layer], check=True)
    vms.create("left", Image("layer", tmp_path, layer, None), UserData(b"x"), SMALL)
    assert vms.backing_files() == {layer, image.disk}


def test_a_server_that_does_not_get_ready_is_reported_with_commands_to_inspect_it(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Machine, *_: object, **__: object) -> str:
        raise Failure("the guest's kernel panicked", evidence="the last lines")

    monkeypatch.setattr(ready, "wait", never)
    vm = vms.create("left", image, UserData(b"x"), SMALL)
    with pytest.raises(Failure, match="VM left: the guest's kernel panicked") as failure:
        vms.wait_until_ready(vm, lambda _: None)
    assert failure.value.evidence == "the last lines"
    assert "invoke logs --name left" in failure.value.remedy
    assert vms.folder_of("left").exists()
