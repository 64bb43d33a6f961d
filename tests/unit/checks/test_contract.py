"""The image's contract: a host that cannot start a VM says nothing about the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mlflow_image import command
from mlflow_image.checks import contract
from mlflow_image.errors import Failure, Refusals
from mlflow_image.images.manifest import Verification
from mlflow_image.progress import step
from mlflow_image.vm import throwaway
from mlflow_image.vm.machine import Machine
from mlflow_image.vm.paused import Paused


def test_a_disk_that_cannot_be_booted_here_is_refused_and_not_recorded_as_failed(
    tmp_path: Path,
) -> None:
    with pytest.raises(Refusals, match="this VM cannot be started"):
        contract.run(tmp_path / "missing.qcow2", tmp_path / "logs")


def test_a_vm_that_this_host_could_not_write_is_not_recorded_as_a_bad_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(*_: object, **__: object) -> None:
        raise Paused("a quota")

    monkeypatch.setattr(throwaway, "booted", pause)
    with pytest.raises(Paused):
        contract.run(tmp_path / "disk.qcow2", tmp_path / "logs")
    vm = SimpleNamespace(spec=SimpleNamespace(ssh_user="u"), ssh_port=1, key_path="k")

    def stream(_: object, on_line: Callable[[str], None], **__: object) -> None:
        on_line("tests/image/test_system.py ..")
        pause()

    monkeypatch.setattr(command, "stream", stream)
    with pytest.raises(Paused), step("a test") as shown:
        contract.testinfra(cast(Machine, vm), tmp_path, shown)


def test_a_contract_that_did_not_pass_is_a_failure_with_its_logs(tmp_path: Path) -> None:
    contract.require_passed(Verification("passed"), tmp_path)
    with pytest.raises(Failure, match="the image breaks its contract: 1 failed") as caught:
        contract.require_passed(Verification("failed", summary="1 failed"), tmp_path)
    assert str(tmp_path) in caught.value.remedy
