"""The smoke test of an image: how its VM is configured, and that it is rebooted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.checks import smoke_image
from mlflow_image.checks.smoke.check import HOST_NAME, LOOPBACK, Options
from mlflow_image.checks.smoke.report import Report, Row
from mlflow_image.command import Completed
from mlflow_image.images.find import Image
from mlflow_image.server import ready
from mlflow_settings import settings, userdata

IMAGE = Image("mlflow-test", Path("/dist/x"), Path("/dist/x/disk.qcow2"), None)
CHECK_SERVER = "mlflow_image.checks.smoke.check.check_server"
GOOD = Row("written", "tags", "written", "written", True, 0.1)


class Guest:
    """Stands in for the VM; records what is done with it."""

    def __init__(self) -> None:
        self.forwarded = {8000: 34567}
        self.done: list[str] = []

    def wait_for_ssh(self, on_wait: Callable[[str], None]) -> None:
        self.done.append("ssh")

    def reboot(self, on_wait: Callable[[str], None]) -> None:
        on_wait("the kernel")
        on_wait("the kernel")
        self.done.append("reboot")

    def run(self, line: str, *, check: bool) -> Completed:
        assert "journalctl" in line
        self.done.append("journal")
        return Completed((line,), 0, "mlflow-launch: ready\n", "", 1.0)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    it = Guest()

    @contextmanager
    def booted(spec: Any, user_data: bytes, **options: Any) -> Iterator[Guest]:
        assert spec.backing == IMAGE.disk
        assert options["until"] == "started"
        assert userdata.unwrap(user_data) == smoke_image.SETTINGS
        yield it
        it.done.append("deleted")

    monkeypatch.setattr("mlflow_image.vm.throwaway.booted", booted)
    monkeypatch.setattr(ready, "wait", lambda vm, _: vm.done.append("ready"))
    return it


def test_the_vms_settings_are_valid_and_allow_the_host_name() -> None:
    checked = settings.check(smoke_image.SETTINGS, "settings.yaml")
    assert HOST_NAME in checked.server.allowed_hosts
    assert checked.server.port == smoke_image.PORT


def test_the_vm_is_addressed_by_name_rebooted_and_deleted(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Options] = []

    def check_server(url: str, options: Options, on_step: Callable[[str], None]) -> Report:
        given.append(options)
        assert options.reboot
        options.reboot()
        return Report(url, (GOOD,), 1.0, ("an experiment",))

    monkeypatch.setattr(CHECK_SERVER, check_server)
    steps: list[str] = []
    report = smoke_image.check_image(IMAGE, tmp_path / "logs", steps.append)
    assert report.url == f"http://{HOST_NAME}:34567"
    assert given[0].resolve == LOOPBACK
    assert given[0].anonymous
    assert guest.done == ["ready", "ssh", "reboot", "ready", "deleted"]
    assert steps == ["booting the VM: the kernel"]
    assert report == Report(report.url, (GOOD,), 1.0, ())
    assert not (tmp_path / "logs").exists()


def test_when_something_differs_the_journal_is_saved_before_the_vm_is_deleted(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = Row("read back", "tags", "written", "nothing", False, 0.1)
    monkeypatch.setattr(CHECK_SERVER, lambda url, *_: Report(url, (bad,), 1.0, ()))
    assert not smoke_image.check_image(IMAGE, tmp_path / "logs", lambda _: None).ok
    assert (tmp_path / "logs" / "journal.log").read_text() == "mlflow-launch: ready\n"
    assert guest.done == ["ready", "journal", "deleted"]
