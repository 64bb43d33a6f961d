"""Bad days of a disk: new at the first boot, full, absent. One VM goes through all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_image.server import ready
from mlflow_image.vm import throwaway
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec

pytestmark = pytest.mark.full

PORT = 8000
# The data disk is a file behind a loop device, which cloud-init formats and mounts.
USER_DATA = b"""\
#cloud-config
bootcmd:
  - [sh, -c, "test -e /disk.img || truncate -s 256M /disk.img"]
  - [sh, -c, "test -e /disk.absent || losetup /dev/loop7 /disk.img"]
fs_setup:
  - {label: mlflow-data, filesystem: ext4, device: /dev/loop7, partition: none, overwrite: false}
mounts:
  - [LABEL=mlflow-data, /var/lib/mlflow, ext4, "defaults,nofail,x-systemd.device-timeout=100"]
write_files:
  - path: /etc/mlflow/settings.yaml
    permissions: "0600"
    content: |
      schema_version: 1
      server: {workers: 1}
"""
FILL = "sudo sh -c 'cat /dev/zero > /var/lib/mlflow/filler; cat /dev/zero > /filler; sync'"


@pytest.fixture(scope="module")
def vm(image: Path) -> Iterator[Machine]:
    spec = Spec(
        backing=image / "disk.qcow2",
        memory_mib=1536,
        hostname="disks",
        forwards={PORT: 0},
        restrict_network=True,
    )
    with throwaway.booted(spec, USER_DATA, until="started") as machine:
        yield machine


def wait_for_line(vm: Machine, text: str, timeout_s: float = 400) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in vm.current_boot.text:
        assert time.monotonic() < deadline, vm.current_boot.text[-4000:]
        time.sleep(1)


@pytest.mark.budget(400)
@pytest.mark.verifies("a data disk that cloud-init formats and mounts at the first boot")
def test_a_disk_that_is_new_at_the_first_boot_belongs_to_the_service(vm: Machine) -> None:
    ready.wait(vm, timeout_s=900)
    vm.wait_for_ssh(timeout_s=300)
    assert vm.run("findmnt -n -o SOURCE /var/lib/mlflow").stdout.strip() == "/dev/loop7"
    assert vm.run("stat -c '%U %a' /var/lib/mlflow").stdout.strip() == "mlflow 750"
    # The database is on the disk, and not below it.
    below = vm.run("sudo sh -c 'mount --bind / /mnt && ls -A /mnt/var/lib/mlflow; umount /mnt'")
    assert "mlflow.db" not in below.stdout
    assert vm.run("sudo test -s /var/lib/mlflow/mlflow.db && echo there").stdout == "there\n"


@pytest.mark.budget(600)
@pytest.mark.verifies("a full disk: the console says why, the server comes up when there is space")
def test_a_full_disk_is_named_and_the_server_comes_up_by_itself_afterwards(vm: Machine) -> None:
    vm.run(FILL, check=False)
    vm.reboot(timeout_s=600)
    deadline = time.monotonic() + 400
    while "mlflow-ready" not in vm.current_boot.text:
        if "mlflow-tracking: the server has ended: " in vm.current_boot.text:
            break
        assert time.monotonic() < deadline, vm.current_boot.text[-4000:]
        time.sleep(1)
    vm.run("sudo rm /filler /var/lib/mlflow/filler")
    wait_for_line(vm, "mlflow-ready http")
    ready.wait(vm, timeout_s=60)


@pytest.mark.budget(600)
@pytest.mark.verifies("the data disk is absent at a later boot: the console names it")
def test_an_absent_disk_is_named_on_the_console_and_nothing_is_served(vm: Machine) -> None:
    vm.run("sudo touch /disk.absent")
    vm.reboot(timeout_s=600)
    wait_for_line(vm, "the server does not start: /var/lib/mlflow is not mounted")
    vm.wait_for_ssh(timeout_s=300)
    assert vm.run("systemctl is-active mlflow-tracking", check=False).stdout == "inactive\n"
    vm.run("sudo rm /disk.absent")
    vm.reboot(timeout_s=600)
    ready.wait(vm, timeout_s=900)
