"""Checks before a VM is created: all faults are reported at once, with numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Refusals
from mlflow_image.vm import paused, preflight, qemu
from mlflow_image.vm.qemu import Spec


@pytest.fixture(autouse=True)
def valid_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "check_disk", lambda *_: None)


def faults(spec: Spec, place: Path) -> list[str]:
    with pytest.raises(Refusals) as refusal:
        preflight.check(spec, place)
    return refusal.value.faults


def test_a_valid_vm_is_accepted(tmp_path: Path) -> None:
    preflight.check(Spec(Path("/image"), memory_mib=512), tmp_path / "not" / "there")


def test_too_little_memory_is_refused_with_numbers(tmp_path: Path) -> None:
    (fault,) = faults(Spec(Path("/image"), memory_mib=10**8), tmp_path)
    assert "100000256 MiB are needed" in fault
    assert "--memory" in fault


def test_too_little_disk_is_refused_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paused, "LEAST_DISK_MIB", 10**12)
    (fault,) = faults(Spec(Path("/image")), tmp_path)
    assert f"in {tmp_path}" in fault
    with pytest.raises(Refusals):
        preflight.check_resources(Spec(Path("/image")), tmp_path)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    spec = Spec(
        Path("/image"), memory_mib=10, cpus=0, forwards={8000: 70000, 99999: 0}, firmware="coreboot"
    )
    found = faults(spec, tmp_path)
    assert len(found) == 5
    assert any("coreboot" in fault for fault in found)
    assert any("70000" in fault for fault in found)
