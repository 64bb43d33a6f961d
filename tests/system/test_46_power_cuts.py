"""Power cuts: QEMU is killed, and with it goes all that the guest had not yet put on its disk.

What the host's own page cache holds survives the kill, so this proves what the guest has flushed,
not what a disk's cache would lose. Twenty cuts each; minutes apart under emulation.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from mlflow_image.server import ready
from mlflow_image.vm import ssh, throwaway
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.qemu import Spec
from mlflow_settings import userdata

pytestmark = pytest.mark.full

PORT = 8000
CUTS = 20
CLIENTS = 6
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
SETTINGS = userdata.wrap("schema_version: 1\nserver: {workers: 1}\n")


def spec(image: Path) -> Spec:
    return Spec(
        backing=image / "disk.qcow2",
        memory_mib=1536,
        hostname="cut",
        forwards={PORT: 0},
        restrict_network=True,
        power_cuts=True,
    )


class Uploads:
    """Clients that upload until the server is gone. acknowledged: path -> sha256 in hex."""

    def __init__(self, url: str, number: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self._url = url
        self._random = random.Random(number)
        self._threads = [
            threading.Thread(
                target=self._upload, args=(f"cut-{number}/client-{client}",), daemon=True
            )
            for client in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _upload(self, folder: str) -> None:
        with requests.Session() as session:
            for count in range(100_000):
                data = self._random.randbytes(self._random.choice((100, 3000, 200_000, 2_000_000)))
                path = f"{folder}/{count // 10}/{count}.bin"
                try:
                    answer = session.put(f"{self._url}{ARTIFACTS}/{path}", data=data, timeout=60)
                except requests.RequestException:
                    return
                if answer.ok:
                    self.acknowledged[path] = hashlib.sha256(data).hexdigest()


def url_of(vm: Machine) -> str:
    return f"http://127.0.0.1:{vm.forwarded[PORT]}"


def lost(url: str, acknowledged: dict[str, str]) -> list[str]:
    """The acknowledged artifacts that are not there, or not whole."""
    found = []
    with requests.Session() as session:
        for path, expected in acknowledged.items():
            answer = session.get(f"{url}{ARTIFACTS}/{path}", timeout=60)
            if not answer.ok or hashlib.sha256(answer.content).hexdigest() != expected:
                found.append(f"{path}: {answer.status_code}, {len(answer.content)} bytes")
    return found


@pytest.mark.budget(5400)
@pytest.mark.verifies("power cuts while artifacts are uploaded: no acknowledged one is lost")
def test_no_acknowledged_artifact_is_lost_in_a_power_cut(
    image: Path, record_property: Callable[[str, object], None]
) -> None:
    everything: dict[str, str] = {}
    with throwaway.booted(spec(image), SETTINGS, until="started") as vm:
        ready.wait(vm, timeout_s=900)
        for number in range(CUTS):
            uploads = Uploads(url_of(vm), number)
            time.sleep(3 + number % 7)
            vm.kill()
            uploads.wait()
            assert uploads.acknowledged
            everything |= uploads.acknowledged
            vm.start()
            ready.wait(vm, timeout_s=900)
            assert lost(url_of(vm), uploads.acknowledged) == []
        assert lost(url_of(vm), everything) == []
    record_property("figure", f"0 of {len(everything)} lost in {CUTS} cuts")


@pytest.mark.budget(7200)
@pytest.mark.verifies(
    "power cuts at 20 moments of the first boot: the next boot has server and ssh"
)
def test_a_power_cut_in_the_first_boot_leaves_a_machine_that_comes_up(
    image: Path, record_property: Callable[[str, object], None]
) -> None:
    with throwaway.booted(spec(image), SETTINGS, until="started") as vm:
        started = time.monotonic()
        ready.wait(vm, timeout_s=900)
        boot_s = time.monotonic() - started
    repeated = 0
    for number in range(CUTS):
        # The last moment is right after the ready line.
        after_s = boot_s * (number + 1) / CUTS
        with throwaway.booted(spec(image), SETTINGS, until="started") as vm:
            if number == CUTS - 1:
                ready.wait(vm, timeout_s=900)
            else:
                time.sleep(after_s)
            vm.kill()
            (vm.directory / ssh.KNOWN_HOSTS).unlink(missing_ok=True)
            vm.start()
            ready.wait(vm, timeout_s=900)
            vm.wait_for_ssh(timeout_s=300)
            sound = vm.run(
                "sudo -n true && sudo test -s /etc/mlflow/settings.yaml && "
                "sudo ssh-keygen -y -P '' -f /etc/ssh/ssh_host_ed25519_key >/dev/null && echo sound"
            )
            assert sound.stdout == "sound\n", (
                f"cut after {after_s:.0f} s: {vm.console_text[-3000:]}"
            )
            repeated += "it is repeated" in vm.console_text
    record_property("figure", f"{CUTS} of {CUTS} came up; {repeated} had to repeat the first boot")
