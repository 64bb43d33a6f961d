"""A failed start: its reason without secrets, and the pause before the next one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from mlflow_launch import failures


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def test_the_reason_is_one_line_without_secrets(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "TEAM_TOKEN": "hush-hush",
        "MLFLOW_PORT": "8000",
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////var/lib/mlflow/mlflow.db",
    }
    text = "Error: hush-hush at postgresql://u:hush/@h@db/x port 8000\nmore hush-hush"
    failures.note(text, environment)
    expected = "Error: (...) at postgresql://(...)@db/x port 8000\n"
    assert (run / "reason").read_text() == expected
    assert "hush" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("first-line\nsecond-line\n", "bad: first-line"),
        ("quo'te\\d", "bad: " + repr("quo'te\\d")),
        ("ends with a break\n", "bad: 'ends with a break'"),
        ("long\nsecond", "bad: long\nsecond"),
    ],
)
def test_a_value_is_hidden_in_every_form_in_which_an_error_may_quote_it(
    value: str, text: str
) -> None:
    shown = failures.without_secrets(text, {"OPENAI_API_KEY": value})
    assert "(...)" in shown
    for part in ("first", "quo", "ends with", "long"):
        assert part not in shown


@pytest.mark.parametrize(
    ("pause", "slept"),
    [("5", []), ("40", [35]), ("300", [295]), ("9999", [295]), ("damaged", []), (None, [])],
)
def test_the_launcher_waits_for_the_rest_of_the_pause(
    run: Path, monkeypatch: pytest.MonkeyPatch, pause: str | None, slept: list[int]
) -> None:
    if pause is not None:
        (run / "pause").write_text(pause)
    found: list[float] = []
    monkeypatch.setattr(failures.time, "sleep", found.append)
    failures.wait_before_start(run)
    assert found == slept


def test_a_full_disk_makes_temporary_files_go_to_memory(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(run / "none"))
    monkeypatch.setattr(tempfile, "tempdir", str(run / "none"))
    failures.ensure_temporary_directory()
    assert tempfile.gettempdir() == str(run)
    assert "is the disk full?" in capsys.readouterr().err
