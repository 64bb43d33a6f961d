"""Early imports: nothing of mlflow.server; every variable that is read is recorded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlflow_launch import preload


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small modules that stand in for the real ones."""
    for name in list(sys.modules):
        if name.startswith(("early_", "mlflow.")) or name == "mlflow":
            monkeypatch.delitem(sys.modules, name)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/__init__.py").write_text("")
    (tmp_path / "mlflow/server.py").write_text("raise SystemExit('imported too early')")
    (tmp_path / "early_sound.py").write_text("import os\nvalue = os.environ.get('EARLY_NAME')\n")
    (tmp_path / "early_reaching.py").write_text("import mlflow.server\n")
    (tmp_path / "early_catching.py").write_text(
        "try:\n    import mlflow.server\nexcept ImportError:\n    pass\n"
    )
    (tmp_path / "early_broken.py").write_text("raise RuntimeError('no such device')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_sound_list_is_imported(packages: Path) -> None:
    done = preload.preload_names(["early_sound"])
    assert (done.missing, done.reaching) == ((), frozenset())
    assert "early_sound" in sys.modules


def test_missing_and_broken_modules_are_left_out(packages: Path) -> None:
    done = preload.preload_names(["early_not_there", "early_broken", "early_sound"])
    assert done.missing == ("early_not_there", "early_broken")
    assert not done.reaching
    assert "early_sound" in sys.modules


@pytest.mark.parametrize("name", ["early_reaching", "early_catching"])
def test_a_module_that_needs_the_server_is_named(packages: Path, name: str) -> None:
    done = preload.preload_names([name])
    assert name in done.reaching
    assert "mlflow.server" not in sys.modules


def test_after_the_early_imports_the_server_may_be_imported(packages: Path) -> None:
    preload.preload_names(["early_catching"])
    with pytest.raises(SystemExit, match="imported too early"):
        __import__("mlflow.server")


def test_a_missing_list_is_ignored(tmp_path: Path) -> None:
    assert preload.preload(tmp_path / "none.txt") is True


def test_a_variable_that_was_read_with_another_value_is_named(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARLY_OTHER", "1")
    with preload.Recorder() as recorder:
        preload.preload_names(["early_sound"])
        assert os.getenv("EARLY_OTHER") == "1"
        assert "EARLY_PROBED" not in os.environ
    given = {"EARLY_NAME": "x", "EARLY_OTHER": "1", "EARLY_PROBED": "y", "EARLY_UNREAD": "z"}
    assert recorder.disagrees(given) == ["EARLY_NAME", "EARLY_PROBED"]


def test_a_stopped_recorder_records_nothing() -> None:
    with preload.Recorder() as recorder:
        pass
    os.environ.get("EARLY_LATER")
    assert recorder.disagrees({"EARLY_LATER": "x"}) == []
