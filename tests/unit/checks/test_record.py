"""verified: rows of what was seen, each with its own commit, in a file and in the README."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mlflow_image.checks import record
from mlflow_image.images import manifest
from mlflow_image.paths import Checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit with a README that has the two marks."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# us\n\n{record.BEGIN}\n{record.END}\n\nmore\n")
    for module in (manifest, record):
        monkeypatch.setattr(module, "HERE", Checkout(tmp_path))
    monkeypatch.setattr(record, "FILE", tmp_path / "docs" / "verified.json")
    monkeypatch.setattr(record, "README", tmp_path / "README.md")
    who = ("-c", "user.name=us", "-c", "user.email=us@example.org")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def seen(*names: str, result: str = "passed") -> list[dict[str, str]]:
    return [{"name": name, "result": result, "figure": "9 s"} for name in names]


def test_a_row_is_in_the_file_and_in_the_table_of_the_readme(checkout: Path) -> None:
    record.update(seen("bakes"), "abc")
    row = json.loads(record.FILE.read_text())["rows"][0]
    assert (row["name"], row["result"], row["commit"]) == ("bakes", "passed", "abc")
    text = record.README.read_text()
    assert f"| bakes | passed | 9 s | {row['date']}, abc |\n{record.END}\n\nmore\n" in text


def test_a_row_that_was_not_run_again_keeps_its_commit(checkout: Path) -> None:
    record.update(seen("bakes", "boots"), "abc")
    record.update(seen("boots", result="failed"), "def")
    rows = {row["name"]: (row["result"], row["commit"]) for row in record.read()}
    assert rows == {"bakes": ("passed", "abc"), "boots": ("failed", "def")}


def test_a_commit_has_a_plus_when_more_differs_than_what_is_written_here(checkout: Path) -> None:
    clean = record.commit()
    record.update(seen("bakes"), clean)
    assert record.commit() == clean
    (checkout / "tasks.py").write_text("")
    assert record.commit() == f"{clean}+"
