"""The file of calls: what it says of a call, also when the client was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_image.checks.torture import record
from mlflow_image.checks.torture.record import ACKNOWLEDGED, REFUSED, SENT, Call, Record
from mlflow_image.errors import Refusal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def test_the_last_state_of_a_call_counts(file: Path) -> None:
    log = Record(file)
    log.write(Call("tag", 1, "r"), SENT)
    log.write(Call("tag", 2, "r"), SENT)
    log.write(Call("tag", 1, "r", "v"), ACKNOWLEDGED)
    log.write(Call("tag", 2, "r"), REFUSED)
    log.write(Call("tag", 3, "r"), SENT)
    log.close()
    found = record.read(file)
    assert [(one.call.number, one.state) for one in found] == [
        (1, ACKNOWLEDGED),
        (2, REFUSED),
        (3, SENT),
    ]
    assert found[0].call.value == "v"
    assert log.counts == {SENT: 3, ACKNOWLEDGED: 1, REFUSED: 1}


def test_a_file_is_continued(file: Path) -> None:
    for number in (1, 2):
        log = Record(file)
        log.write(Call("run", number), SENT)
        log.close()
    assert len(record.read(file)) == 2


def test_half_a_line_at_the_end_is_no_call(file: Path) -> None:
    log = Record(file)
    log.write(Call("run", 1), SENT)
    log.close()
    with file.open("a") as cut:
        cut.write('{"state": "acknowl')
    (found,) = record.read(file)
    assert found.state == SENT
    log = Record(file)
    log.write(Call("run", 2), SENT)
    log.close()
    assert [one.call.number for one in record.read(file)] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "no JSON",
        json.dumps({"state": "sent"}),
        json.dumps({"state": "lost", "kind": "run", "number": 1}),
        json.dumps({"state": "sent", "kind": "walk", "number": 1}),
        json.dumps({"kind": "run", "number": 1}),
    ],
)
def test_another_file_is_refused_with_its_line(file: Path, line: str) -> None:
    file.write_text(f"{line}\n")
    with pytest.raises(Refusal, match=r"calls.jsonl:1: is not a call") as caught:
        record.read(file)
    assert "invoke torture --record" in str(caught.value.remedy)


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(Refusal, match="cannot be read"):
        record.read(file)
