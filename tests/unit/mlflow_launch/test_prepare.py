"""prepare: the files that a build makes for the launcher are valid and the same in every build."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from mlflow_launch import prepare


def test_an_imported_module_without_bytecode_gets_bytecode_that_is_never_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("left_out", "elsewhere"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text("value = 7\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.import_module(name)
    prepare.compile_the_rest(["left_out", "elsewhere", "os", "not_there"], tmp_path / "left_out")
    compiled = Path(importlib.util.cache_from_source(str(tmp_path / "left_out/left_out.py")))
    # 1: unchecked, by the source's hash (PEP 552).
    expected = bytes([1, 0, 0, 0]) + importlib.util.source_hash(b"value = 7\n")
    assert compiled.read_bytes()[4:16] == expected
    assert not (tmp_path / "elsewhere" / "__pycache__").exists()
    before = compiled.stat().st_mtime_ns
    prepare.compile_the_rest(["left_out"], tmp_path / "left_out")
    assert compiled.stat().st_mtime_ns == before
