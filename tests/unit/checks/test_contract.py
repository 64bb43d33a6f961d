"""The image's contract: a host that cannot start a VM says nothing about the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.checks import contract
from mlflow_image.errors import Failure, Refusals
from mlflow_image.images.manifest import Verification


def test_a_disk_that_cannot_be_booted_here_is_refused_and_not_recorded_as_failed(
    tmp_path: Path,
) -> None:
    with pytest.raises(Refusals, match="this VM cannot be started"):
        contract.run(tmp_path / "missing.qcow2", tmp_path / "logs")


def test_a_contract_that_did_not_pass_is_a_failure_with_its_logs(tmp_path: Path) -> None:
    contract.require_passed(Verification("passed"), tmp_path)
    with pytest.raises(Failure, match="the image breaks its contract: 1 failed") as caught:
        contract.require_passed(Verification("failed", summary="1 failed"), tmp_path)
    assert str(tmp_path) in caught.value.remedy
