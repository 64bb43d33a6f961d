"""Every folder of cases/ has a settings.yaml and its expected result: faults.txt or server.json.

After an intended change, run `python tests/unit/mlflow_settings/test_cases.py`. It rewrites the
expected results; review them with `git diff`.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from mlflow_settings import render, settings
from mlflow_settings.blocks.block import Machine
from mlflow_settings.document import Faults

CASES = sorted(folder for folder in (Path(__file__).parent / "cases").iterdir())
#: The machine in every case.
MACHINE = Machine(("10.0.2.15",))


@functools.cache
def outcome(folder: Path) -> tuple[str, str]:
    """(name of the result file, its content)"""
    text = (folder / "settings.yaml").read_text()
    try:
        checked = settings.check(text, "settings.yaml")
    except Faults as refused:
        return "faults.txt", f"{refused}\n"
    return "server.json", render.render(checked, MACHINE)[0].content


def test_there_are_cases_of_both_kinds() -> None:
    expectations = [path.name for folder in CASES for path in folder.iterdir()]
    assert expectations.count("settings.yaml") == len(CASES)
    assert {"faults.txt", "server.json"} <= set(expectations)


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_settings_give_the_expected_result(folder: Path) -> None:
    name, content = outcome(folder)
    assert {path.name for path in folder.iterdir()} == {"settings.yaml", name}
    assert content == (folder / name).read_text()


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_no_fault_shows_a_secret(folder: Path) -> None:
    name, content = outcome(folder)
    assert name == "server.json" or "hush" not in content


def test_the_messages_are_in_the_order_of_the_lines() -> None:
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
