"""The operating system: boots without errors, grows its disk, accepts logins by key only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

#: Programs that run with another user's or group's rights.
SETUID_OR_SETGID = {
    "/usr/bin/chage",
    "/usr/bin/chfn",
    "/usr/bin/chsh",
    "/usr/bin/expiry",
    "/usr/bin/gpasswd",
    "/usr/bin/mount",
    "/usr/bin/newgrp",
    "/usr/bin/passwd",
    "/usr/bin/ssh-agent",
    "/usr/bin/su",
    "/usr/bin/sudo",
    "/usr/bin/umount",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
    "/usr/lib/openssh/ssh-keysign",
    "/usr/sbin/pam_extrausers_chkpwd",
    "/usr/sbin/unix_chkpwd",
}
#: The units that only configure the machine; mlflow-tracking.service has its own, stricter test.
SMALL_UNITS = (
    "mlflow-configure",
    "mlflow-image-clock",
    "mlflow-image-first-boot",
    "mlflow-image-first-boot-end",
    "mlflow-image-host-keys",
    "mlflow-image-network",
    "mlflow-image-time-source",
    "mlflow-image-report",
    "mlflow-image-store",
    "mlflow-sweep",
)


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


def test_a_time_daemon_runs_and_changes_of_the_clock_are_noticed(host: Host) -> None:
    for name in ("systemd-timesyncd.service", "mlflow-image-clock.timer"):
        assert host.service(name).is_enabled, name
        assert host.service(name).is_running, name


def test_the_server_does_not_wait_for_the_time(root: Any) -> None:
    before = root("systemctl show -P After mlflow-tracking.service mlflow-configure.service")
    assert "time-sync.target" not in before
    assert root("systemctl is-enabled systemd-time-wait-sync.service || true") == "disabled"


@pytest.mark.parametrize("name", SMALL_UNITS)
def test_a_small_unit_is_hardened_to_an_exposure_below_4(root: Any, name: str) -> None:
    verdict = root(f"systemd-analyze security --no-pager {name}.service | tail -n 1")
    exposure = float(verdict.split(":")[1].split()[0])
    assert 0 < exposure < 4, verdict


def test_only_expected_programs_run_with_the_rights_of_another(root: Any) -> None:
    found = set(root("find / -xdev -type f -perm /6000").split())
    assert found <= SETUID_OR_SETGID
    assert "/usr/bin/sudo" in found


def test_sshd_names_only_the_host_key_that_it_uses(root: Any) -> None:
    assert root("grep ^HostKey /etc/ssh/sshd_config") == "HostKey /etc/ssh/ssh_host_ed25519_key"
    keys = [line for line in root("sshd -T").splitlines() if line.startswith("hostkey ")]
    assert keys == ["hostkey /etc/ssh/ssh_host_ed25519_key"]


def test_security_updates_are_on(root: Any) -> None:
    periodic = root("apt-config dump APT::Periodic::Unattended-Upgrade")
    assert '"1"' in periodic


def folder_of_distribution(image: dict[str, Any]) -> str:
    """The folder of a Python distribution that stays in the image; empty if none does."""
    distribution = image["python"]["distribution"]
    stays = image["definition"]["python"].get("keep_distribution", True)
    return f"{distribution}3" if stays and distribution != "system" else ""


def test_opt_has_only_what_the_definition_keeps(host: Host, image: dict[str, Any]) -> None:
    expected = {"mlflow", folder_of_distribution(image)} - {""}
    assert set(host.check_output("ls -A /opt").split()) == expected


@pytest.mark.budget(90)
def test_conda_works_for_who_logs_in_if_its_distribution_stays(
    host: Host, image: dict[str, Any]
) -> None:
    folder = folder_of_distribution(image)
    if not folder:
        assert host.run("bash -lc 'command -v conda'").rc != 0
        return
    assert host.check_output("bash -lc 'type -t conda'") == "function"
    assert host.check_output("bash -lc 'conda --version'").startswith("conda ")
    prefix = "import sys; print(sys.prefix)"
    activated = host.check_output(f"bash -lc 'conda activate && python -c \"{prefix}\"'")
    assert activated == f"/opt/{folder}"


def test_the_image_describes_itself(host: Host, image: dict[str, Any]) -> None:
    release = host.check_output(". /etc/os-release && echo $ID-$VERSION_ID")
    assert image["os"] == release
    assert image["mlflow"] == image["packages"]["mlflow"]
    assert "login" in image
    assert "git" not in image


def test_the_logs_outside_the_journal_are_rotated(root: Any) -> None:
    assert root("systemctl is-enabled logrotate.timer") == "enabled"
    considered = root("logrotate --debug /etc/logrotate.conf 2>&1")
    for name in ("btmp", "wtmp", "apt/term.log", "dpkg.log", "cloud-init.log"):
        assert f"/var/log/{name}" in considered, name
