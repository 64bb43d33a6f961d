"""Memory and disk: too little of either is reported with numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.host import resources


def shortages(folder: Path, *, memory_mib: int = 1, disk_mib: int = 1) -> list[str]:
    return resources.shortages(
        memory_mib=memory_mib,
        disk_mib=disk_mib,
        folder=folder,
        memory_remedy="stop a VM",
        disk_remedy="clean up",
    )


def test_no_shortage_is_reported_for_a_new_folder_with_enough_space(tmp_path: Path) -> None:
    assert shortages(tmp_path / "not" / "there") == []


def test_each_shortage_has_its_numbers_and_its_remedy(tmp_path: Path) -> None:
    memory, disk = shortages(tmp_path, memory_mib=10**9, disk_mib=10**10)
    assert memory.startswith(f"not enough memory: {10**9} MiB are needed, ")
    assert memory.endswith(" MiB are free; stop a VM")
    assert disk.startswith(f"not enough disk: {10**10} MiB are needed in {tmp_path}, ")
    assert disk.endswith(" MiB are free; clean up")


@pytest.mark.parametrize(("free_mib", "given_mib"), [(1000, 1536), (9000, 3000), (64000, 4096)])
def test_a_build_vm_gets_a_third_of_the_free_memory_within_limits(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, given_mib: int
) -> None:
    monkeypatch.setattr(resources, "free_memory_mib", lambda: free_mib)
    assert resources.memory_mib() == given_mib
