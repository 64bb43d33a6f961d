"""The handover: the launcher serves exactly what mlflow-configure wrote, or nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mlflow_launch import handover
from mlflow_settings import render, settings


def test_rendered_settings_are_read_back(tmp_path: Path) -> None:
    rendered = render.render(settings.Settings())[0]
    (tmp_path / "server.json").write_text(rendered.content)
    launch = handover.wait(tmp_path)
    assert isinstance(launch, handover.Launch)
    assert launch.environment == render.environment(settings.Settings())
    assert launch.stock_command is False


def test_a_refusal_has_its_lines_and_wins_over_settings(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(render.render(settings.Settings())[0].content)
    (tmp_path / "refused").write_text("one fault\nanother\n")
    assert handover.wait(tmp_path) == handover.Refused(("one fault", "another"))


def test_nothing_is_served_before_the_settings_are_there(tmp_path: Path) -> None:
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(handover.wait(tmp_path)), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert found == []
    (tmp_path / "refused").write_text("no\n")
    waiting.join(5)
    assert found == [handover.Refused(("no",))]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"format": 2, "environment": {}, "stock_command": False}),
        json.dumps({"format": 1, "environment": {"A": 1}, "stock_command": False}),
        json.dumps({"format": 1, "environment": [], "stock_command": False}),
        json.dumps({"format": 1, "environment": {}, "stock_command": "no"}),
        json.dumps({"format": 1, "environment": {}}),
    ],
)
def test_any_other_content_is_a_refusal(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    assert isinstance(handover.wait(tmp_path), handover.Refused)


def test_the_environment_is_not_in_the_repr() -> None:
    assert "hush" not in repr(handover.Launch({"A": "hush"}, stock_command=False))
