"""Memory: one rule says when there is not enough, with the numbers."""

from __future__ import annotations

import pytest

from mlflow_image.host import resources


def test_enough_is_no_shortage() -> None:
    assert resources.memory_shortage(1, "stop a VM") == ""


def test_a_shortage_has_its_numbers_and_its_remedy() -> None:
    memory = resources.memory_shortage(10**9, "stop a VM")
    assert memory.startswith(f"not enough memory: {10**9} MiB are needed, ")
    assert memory.endswith(" MiB are free; stop a VM")


@pytest.mark.parametrize(("free_mib", "given_mib"), [(1000, 1536), (9000, 3000), (64000, 4096)])
def test_a_build_vm_gets_a_third_of_the_free_memory_within_limits(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, given_mib: int
) -> None:
    monkeypatch.setattr(resources, "free_memory_mib", lambda: free_mib)
    assert resources.build_vm_memory_mib() == given_mib
