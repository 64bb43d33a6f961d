"""Memory and disk: one rule says when there is not enough, with the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.host import resources


def test_enough_is_no_shortage_in_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert resources.memory_shortage(1, "stop a VM") == ""
    assert resources.disk_shortage(1, tmp_path / "not" / "there", "clean up") == ""


def test_each_shortage_has_its_numbers_and_its_remedy(tmp_path: Path) -> None:
    memory = resources.memory_shortage(10**9, "stop a VM")
    assert memory.startswith(f"not enough memory: {10**9} MiB are needed, ")
    assert memory.endswith(" MiB are free; stop a VM")
    disk = resources.disk_shortage(10**10, tmp_path, "clean up")
    assert disk.startswith(f"not enough disk: {10**10} MiB are needed in {tmp_path}, ")
    assert disk.endswith(" MiB are free; clean up")


@pytest.mark.parametrize(("free_mib", "given_mib"), [(1000, 1536), (9000, 3000), (64000, 4096)])
def test_a_build_vm_gets_a_third_of_the_free_memory_within_limits(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, given_mib: int
) -> None:
    monkeypatch.setattr(resources, "free_memory_mib", lambda: free_mib)
    assert resources.build_vm_memory_mib() == given_mib
