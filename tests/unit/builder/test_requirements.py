"""What a build needs: refused early with numbers, by the same rule that doctor shows."""

from __future__ import annotations

import pytest

from mlflow_image import space
from mlflow_image.builder import doctor, requirements
from mlflow_image.errors import Refusals
from mlflow_image.host import resources, rootless
from mlflow_image.inputs import anaconda


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free memory and disk of a stand-in host, in MiB."""
    found = {"memory": 10_000, "disk": 20_000}
    monkeypatch.setattr(rootless, "require", lambda: None)
    monkeypatch.setattr(resources, "free_memory_mib", lambda: found["memory"])
    monkeypatch.setattr(space, "free_mib", lambda _: found["disk"])
    return found


def test_a_host_with_enough_of_both_is_accepted(free: dict[str, int]) -> None:
    requirements.require_host()


def test_too_little_of_both_is_refused_at_once_with_numbers(free: dict[str, int]) -> None:
    free.update(memory=100, disk=200)
    with pytest.raises(Refusals) as refused:
        requirements.require_host()
    memory, disk = refused.value.faults
    assert "100 MiB are free" in memory
    assert "200 MiB are free" in disk


def test_anaconda_needs_more_disk(free: dict[str, int]) -> None:
    with pytest.raises(Refusals, match="cannot build") as refused:
        requirements.require_host(anaconda.read_installer())
    assert "not enough disk" in refused.value.faults[0]


@pytest.mark.parametrize("less", [1, 0])
def test_doctor_and_build_agree_on_what_is_enough(free: dict[str, int], less: int) -> None:
    needed = requirements.of_build()
    free.update(memory=needed.memory_mib - less, disk=needed.disk_mib - less)
    rows = {row.what: row.ok for row in doctor.room()}
    assert rows["memory"] == (not needed.memory_shortage) == (less == 0)
    assert rows["disk"] == (not needed.disk_shortage) == (less == 0)
