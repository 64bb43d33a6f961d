"""Every folder of cases/ holds a settings.yaml and what must come of it: faults.txt or server.json.

After a wanted change: `python tests/unit/mlflow_settings/test_cases.py` writes what comes of it
now, and `git diff` shows whether that is what was wanted.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_settings import render, settings
from mlflow_settings.document import Faults

CASES = sorted(folder for folder in (Path(__file__).parent / "cases").iterdir())
#: Where the machine of every case lives.
ADDRESSES = ("10.0.2.15",)


def outcome(folder: Path) -> tuple[str, str]:
    """(name of the file that holds the expectation, its content)"""
    text = (folder / "settings.yaml").read_text()
    try:
        checked = settings.check(text, "settings.yaml")
    except Faults as refused:
        return "faults.txt", f"{refused}\n"
    return "server.json", render.render(checked, ADDRESSES)[0].content


def test_there_are_cases_of_both_kinds() -> None:
    expectations = [path.name for folder in CASES for path in folder.iterdir()]
    assert expectations.count("settings.yaml") == len(CASES)
    assert expectations.count("faults.txt") >= 15
    assert expectations.count("server.json") >= 3


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_settings_give_what_their_case_says(folder: Path) -> None:
    name, content = outcome(folder)
    assert {path.name for path in folder.iterdir()} == {"settings.yaml", name}
    assert content == (folder / name).read_text()


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_no_fault_shows_a_secret(folder: Path) -> None:
    name, content = outcome(folder)
    assert name == "server.json" or "hush" not in content


def test_the_messages_of_one_file_come_in_the_order_of_its_lines() -> None:
    for folder in CASES:
        name, content = outcome(folder)
        if name == "faults.txt":
            lines = [int(line.split(":")[1]) for line in content.splitlines()]
            assert lines == sorted(lines)


def test_the_same_settings_render_to_the_same_bytes() -> None:
    case = next(folder for folder in CASES if folder.name == "everything")
    assert outcome(case) == outcome(case)
    assert json.loads(outcome(case)[1])["stock_command"] is True


if __name__ == "__main__":
    for case in CASES:
        expected_name, expected = outcome(case)
        for stale in {"faults.txt", "server.json"} - {expected_name}:
            (case / stale).unlink(missing_ok=True)
        (case / expected_name).write_text(expected)
