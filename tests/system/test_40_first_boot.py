"""First boots with invalid settings or none: what the console shows, what stays closed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.server import ready
from mlflow_image.vm import ssh, throwaway
from mlflow_image.vm.qemu import Spec
from mlflow_settings import userdata
from mlflow_settings.configure import NO_USER_DATA


def spec(image: Path, firmware: str = "bios") -> Spec:
    return Spec(
        backing=image / "disk.qcow2",
        memory_mib=1536,
        hostname="first",
        restrict_network=True,
        firmware=firmware,
    )


@pytest.mark.budget(150)
@pytest.mark.verifies("first boot with invalid settings: no server, every error on the console")
def test_invalid_settings_at_the_first_boot_end_the_wait_and_are_all_reported(image: Path) -> None:
    bad = userdata.wrap("schema_version: 1\nserver:\n  prot: 8000\n  workers: 0\n")
    with (
        pytest.raises(Failure) as stopped,
        throwaway.booted(spec(image), bad, until="started") as vm,
    ):
        ready.wait(vm, timeout_s=600)
    message = str(stopped.value)
    assert "server.prot" in message
    assert "server.workers" in message


@pytest.mark.budget(240)
@pytest.mark.verifies("no user-data: server on loopback only; no cloud-init: ssh still starts")
def test_without_user_data_the_server_is_on_loopback_and_the_console_explains_it(
    image: Path,
) -> None:
    with throwaway.booted(spec(image), b"#cloud-config\n{}\n", until="ssh") as vm:
        deadline = time.monotonic() + 300
        while "mlflow-ready http://127.0.0.1:8000" not in vm.console_text:
            assert time.monotonic() < deadline, vm.console_text[-2000:]
            time.sleep(1)
        console = vm.console_text
        for line in NO_USER_DATA:
            assert f"mlflow-configure: {line}" in console
        listening = vm.run("sudo ss -Hltn sport = :8000").stdout.split()[3]
        assert listening == "127.0.0.1:8000"

        vm.run(
            "sudo sh -c 'touch /etc/cloud/cloud-init.disabled; "
            "rm -f /etc/ssh/ssh_host_* /etc/netplan/50-cloud-init.yaml "
            "/home/*/.ssh/known_hosts; sync'"
        )
        (vm.directory / ssh.KNOWN_HOSTS).unlink()
        vm.reboot()
        assert vm.run("test -e /run/cloud-init/enabled || echo disabled").stdout == "disabled\n"


@pytest.mark.budget(150)
@pytest.mark.verifies("boots with Secure Boot enabled")
def test_the_image_boots_with_secure_boot_enabled(image: Path) -> None:
    with throwaway.booted(spec(image, firmware="secureboot"), b"#cloud-config\n{}\n") as vm:
        assert vm.run("mokutil --sb-state").stdout.strip() == "SecureBoot enabled"
