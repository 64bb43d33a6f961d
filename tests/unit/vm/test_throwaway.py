"""Throwaway VMs: what a killed process left is removed, and nothing of a living one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_image import paths
from mlflow_image.errors import Refusals
from mlflow_image.host import processes
from mlflow_image.vm import throwaway
from mlflow_image.vm.qemu import Spec


def test_only_the_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    machines = paths.cache() / "machines"
    living, ended, unknown = (machines / name for name in ("living", "ended", "unknown"))
    for folder in (living, ended):
        processes.make_owned_folder(folder)
    note = ended / processes.OWNER_NAME
    note.write_text(json.dumps({**json.loads(note.read_text()), "started": "an earlier boot"}))
    unknown.mkdir()  # made by an earlier version, whose process may still run
    with (
        pytest.raises(Refusals, match="cannot be started"),
        throwaway.booted(Spec(tmp_path / "missing.qcow2"), b""),
    ):
        raise AssertionError("a VM without a disk was started")
    assert {path.name for path in machines.iterdir()} == {"living", "unknown"}
