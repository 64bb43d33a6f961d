"""Servers on the loopback: one that does not start is reported with what it printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.errors import Failure
from mlflow_image.server import local


def test_a_server_that_ends_at_once_is_reported_with_its_output(tmp_path: Path) -> None:
    words = ["sh", "-c", "echo no such table; exit 3"]
    with (
        pytest.raises(Failure, match="sh ended before it answered") as failure,
        local.serving(words, tmp_path, {}, local.free_port()),
    ):
        raise AssertionError("the server must not start")
    assert "no such table" in failure.value.evidence
