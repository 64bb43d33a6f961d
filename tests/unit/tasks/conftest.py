"""What the tests of tasks around settings must not find on this host."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mlflow_image.images import find


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No image, no terminal, no key of the user, an own folder."""
    monkeypatch.setattr(find, "newest", lambda: None)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
