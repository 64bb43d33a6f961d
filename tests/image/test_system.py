"""The operating system: boots without errors, grows its disk, accepts logins by key only."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host


def test_no_unit_failed(root: Any) -> None:
    assert root("systemctl list-units --failed --no-legend --plain") == ""


def test_cloud_init_finished_without_errors(root: Any) -> None:
    status = json.loads(root("cloud-init status --wait --format json"))
    assert status["errors"] == []
    assert status["status"] == "done"
    assert status.get("recoverable_errors", {}).get("ERROR", []) == []


def test_cloud_init_used_the_seed_of_this_boot(root: Any) -> None:
    assert root("cat /var/lib/cloud/data/instance-id").startswith("mlflow-image-")


def test_the_root_file_system_fills_the_disk(root: Any) -> None:
    disk = int(root("lsblk -bdno SIZE /dev/vda"))
    file_system = int(root("df -B1 --output=size / | tail -n 1"))
    assert file_system > 0.9 * (disk - 80 * 2**20)


def test_root_is_found_by_uuid(root: Any) -> None:
    assert "root=UUID=" in root("cat /proc/cmdline")
    assert root("findmnt -no SOURCE --fstab /").startswith("UUID=")


def test_partitions_are_numbered_as_in_official_cloud_images(root: Any) -> None:
    numbers = root("lsblk -rno NAME /dev/vda | sort").split()
    assert numbers == ["vda", "vda1", "vda14", "vda15"]


def test_logins_by_password_are_refused(root: Any) -> None:
    settings = root("sshd -T").lower().splitlines()
    assert "passwordauthentication no" in settings
    assert "permitrootlogin yes" not in settings
    shadow = [line.split(":") for line in root("cat /etc/shadow").splitlines()]
    assert [user for user, password, *_ in shadow if password[:1] not in ("!", "*")] == []


def test_the_first_boot_does_not_compile_netplan(root: Any) -> None:
    compiled = "find /usr/share/netplan /usr/lib/python3/dist-packages/netplan -name '*.pyc'"
    assert root(f"{compiled} 2>/dev/null || true") != ""
    assert root(f"{compiled} -newer /etc/mlflow-image.json 2>/dev/null || true") == ""


def test_the_clock_is_utc(root: Any) -> None:
    assert root("date +%Z") == "UTC"


def test_security_updates_are_on(root: Any) -> None:
    periodic = root("apt-config dump APT::Periodic::Unattended-Upgrade")
    assert '"1"' in periodic


def test_the_image_describes_itself(host: Host, image: dict[str, Any]) -> None:
    release = host.check_output(". /etc/os-release && echo $ID-$VERSION_ID")
    assert image["os"] == release
    assert image["mlflow"] == image["packages"]["mlflow"]
    assert "login" in image
    assert "git" not in image
