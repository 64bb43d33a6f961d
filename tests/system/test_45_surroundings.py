"""One machine in changing surroundings: a wrong clock, another network card, another instance."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlflow_image.vm import firmware, seed, ssh, throwaway
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec

from ..standins import time_server

#: Far more than a minute; after the release of the image's systemd, which corrects older clocks.
BEHIND = timedelta(hours=2)
OTHER_CARD = "virtio-net-pci,mac=52:54:00:ab:cd:ef,addr=0x10"
NO_SETTINGS = b"#cloud-config\n{}\n"
USER_DATA = b"""#cloud-config
ntp:
  enabled: true
  pools: []
  servers: [10.0.2.2]
write_files:
  - path: /etc/mlflow/settings.yaml
    permissions: "0600"
    content: "schema_version: 1\\n"
"""
HOST_KEY = "sudo cat /etc/ssh/ssh_host_ed25519_key.pub"
#: The files of the EFI partition and where the packages have them.
BOOT_FILES = {
    "BOOT/BOOTX64.EFI": "/usr/lib/shim/shimx64.efi.signed",
    "BOOT/fbx64.efi": "/usr/lib/shim/fbx64.efi",
    "BOOT/mmx64.efi": "/usr/lib/shim/mmx64.efi",
    "ubuntu/BOOTX64.CSV": "/usr/lib/shim/BOOTX64.CSV",
    "ubuntu/grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    "ubuntu/mmx64.efi": "/usr/lib/shim/mmx64.efi",
    "ubuntu/shimx64.efi": "/usr/lib/shim/shimx64.efi.signed",
}


def wait_for(vm: Machine, text: str, timeout_s: float = 300) -> str:
    """Wait until the console of this boot has the text; returns the line."""
    deadline = time.monotonic() + timeout_s
    while not (found := re.search(rf"^.*{text}.*$", vm.console_text, re.MULTILINE)):
        assert time.monotonic() < deadline, vm.console_text[-3000:]
        time.sleep(1)
    return found[0]


def start_again(vm: Machine, network_card: str) -> float:
    """Power off and start with this network card; returns the seconds until ssh answers."""
    assert vm.power_off()
    vm.spec = replace(vm.spec, clock="", network_card=network_card)
    beginning = time.monotonic()
    vm.start()
    vm.wait_for_ssh()
    return time.monotonic() - beginning


def give_new_instance_id(vm: Machine) -> None:
    """Write another seed, as a cloud does for a clone of the disk."""
    meta = json.loads((vm.directory / "seed" / "meta-data").read_text())
    user_data = (vm.directory / "seed" / "user-data").read_bytes()
    for path in (vm.directory / "seed").iterdir():
        path.unlink()
    (vm.directory / "seed").rmdir()
    text = seed.meta_data(meta["local-hostname"], meta["public-keys"][0])
    seed.write_iso(vm.directory, user_data, text)
    (vm.directory / ssh.KNOWN_HOSTS).unlink()


@pytest.fixture(scope="module")
def requests() -> Iterator[list[bytes]]:
    """The requests to a time server on this host."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(time_server.serving())
        except PermissionError:
            pytest.skip("a time server listens on port 123: run by root")


@pytest.fixture(scope="module")
def vm(image: Path, requests: list[bytes]) -> Iterator[Machine]:
    """A VM whose clock is two hours behind at power-on."""
    clock = datetime.now(timezone.utc) - BEHIND
    spec = Spec(
        backing=image / "disk.qcow2",
        memory_mib=1536,
        hostname="moved",
        clock=clock.strftime("%Y-%m-%dT%H:%M:%S"),
    )
    with throwaway.booted(spec, USER_DATA) as machine:
        yield machine


@pytest.mark.budget(300)
@pytest.mark.verifies("a clock two hours behind: corrected by NTP, reported on the console")
def test_a_clock_that_was_two_hours_behind_is_corrected_and_reported(
    vm: Machine, requests: list[bytes]
) -> None:
    line = wait_for(vm, "the clock was [0-9]+ s behind")
    behind = int(re.findall(r"was (\d+) s behind", line)[0])
    assert abs(behind - BEHIND.total_seconds()) < 60, line
    assert requests
    assert abs(int(vm.run("date +%s").stdout) - time.time()) < 10


def test_the_time_server_of_a_cloud_is_used_where_cloud_init_names_the_cloud(vm: Machine) -> None:
    vm.run("cloud-init status --wait", check=False, timeout_s=600)  # its ntp module has run
    # A stand-in for EC2: the name that cloud-init gives it.
    vm.run(
        "sudo sh -c 'rm /etc/systemd/timesyncd.conf.d/cloud-init.conf; "
        "echo aws > /run/cloud-init/cloud-id; touch /run/cloud-init/cloud-id-aws; "
        "systemctl restart mlflow-image-time-source.service'"
    )
    shown = "timedatectl show-timesync --property=SystemNTPServers --value"
    deadline = time.monotonic() + 60
    # Fails while the daemon restarts.
    while vm.run(shown, check=False).stdout.strip() != "169.254.169.123":
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.budget(60)
def test_an_upgrade_of_sshd_creates_no_other_host_keys(vm: Machine) -> None:
    before = vm.run(HOST_KEY).stdout
    # Runs the configuration script of the package, as an upgrade does.
    vm.run("sudo DEBIAN_FRONTEND=noninteractive dpkg-reconfigure openssh-server")
    assert vm.run("ls /etc/ssh/ssh_host_*_key").stdout == "/etc/ssh/ssh_host_ed25519_key\n"
    assert vm.run(HOST_KEY).stdout == before


@pytest.mark.full
@pytest.mark.budget(180)
@pytest.mark.verifies("another network card, same instance: DHCP, ssh and the server's address")
def test_another_network_card_comes_up_by_dhcp_without_waiting(vm: Machine) -> None:
    before = vm.run("cat /etc/machine-id").stdout, vm.run(HOST_KEY).stdout
    seconds = start_again(vm, OTHER_CARD)
    assert "52:54:00:ab:cd:ef" in vm.run("cat /sys/class/net/en*/address").stdout
    assert (vm.run("cat /etc/machine-id").stdout, vm.run(HOST_KEY).stdout) == before
    wait_for(vm, "the configuration fits no network card: using DHCP")
    assert "FAILED" not in vm.console_text
    wait_for(vm, "mlflow-ready http://10.0.2.15:8000")
    vm.run("systemctl is-system-running --wait", check=False)  # blame wants a finished boot
    waited = vm.run("systemd-analyze blame --no-pager | grep wait-online").stdout
    assert "min" not in waited, (seconds, waited)


@pytest.mark.budget(180)
@pytest.mark.verifies("a clone with a new instance id: own host key, same machine id")
def test_a_clone_with_a_new_instance_id_makes_its_own_host_key_and_keeps_the_machine_id(
    vm: Machine,
) -> None:
    machine_id, host_key = vm.run("cat /etc/machine-id").stdout, vm.run(HOST_KEY).stdout
    give_new_instance_id(vm)
    start_again(vm, OTHER_CARD)
    assert vm.run(HOST_KEY).stdout != host_key
    assert vm.run("cat /etc/machine-id").stdout == machine_id
    # Two clones in one network must not ask for the same address.
    client = vm.run("grep -h CLIENTID /run/systemd/netif/leases/*").stdout
    assert client.endswith("525400abcdef\n"), client


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies("updates of shim and GRUB reach the EFI partition; then Secure Boot")
def test_an_update_of_the_boot_loaders_replaces_all_of_them_and_secure_boot_still_works(
    image: Path,
) -> None:
    spec = Spec(image / "disk.qcow2", firmware="secureboot", restrict_network=True, hostname="efi")
    with throwaway.booted(spec, NO_SETTINGS) as vm:
        names = " ".join(BOOT_FILES)
        listed = vm.run("sudo sh -c 'cd /boot/efi/EFI && find . -type f | sort'").stdout.split()
        assert listed == sorted(f"./{name}" for name in [*BOOT_FILES, "ubuntu/grub.cfg"])
        vm.run(f"sudo sh -c 'cd /boot/efi/EFI && for f in {names}; do echo old >> $f; done'")
        # Runs the configuration scripts of the packages, as an upgrade does.
        for package in ("grub-efi-amd64-signed", "shim-signed"):
            vm.run(f"sudo DEBIAN_FRONTEND=noninteractive dpkg-reconfigure {package}")
        for name, source in BOOT_FILES.items():
            vm.run(f"sudo cmp /boot/efi/EFI/{name} {source}")
        vm.reboot()
        assert vm.run("mokutil --sb-state").stdout.strip() == "SecureBoot enabled"
        # Another host's firmware knows no boot entry, and starts EFI/BOOT.
        assert vm.power_off()
        (vm.directory / firmware.VARS_NAME).unlink()
        firmware.make_variables(vm.directory, vm.spec.firmware)
        vm.start()
        vm.wait_for_ssh()
        assert vm.run("mokutil --sb-state").stdout.strip() == "SecureBoot enabled"
