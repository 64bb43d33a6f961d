"""For tests of the builder: a place in which a layer is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_image.builder.place import Place
from mlflow_image.progress import Step


@pytest.fixture
def place(tmp_path: Path, step: Step) -> Place:
    found = Place(tmp_path / "work", tmp_path / "work" / "result", tmp_path / "logs", step)
    for folder in (found.work, found.result, found.logs):
        folder.mkdir()
    return found
