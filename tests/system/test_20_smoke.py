"""The smoke test: a real MLflow client logs a run to a VM that boots the sealed image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Tasks


@pytest.mark.budget(480)
@pytest.mark.verifies("a real MLflow client logs a run and reads it back, also after a reboot")
def test_a_logged_run_is_read_back_also_after_a_reboot(
    tasks: Tasks, image: Path, record_property: Callable[..., None]
) -> None:
    done = tasks("smoke-test", "--json")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    phases = {row["phase"] for row in report["rows"]}
    assert {"written", "read back", "after the reboot"} <= phases
    assert all(row["ok"] for row in report["rows"])
    assert len(report["rows"]) >= 30
    record_property("figure", f"{len(report['rows'])} comparisons, {report['seconds']:.0f} s")
