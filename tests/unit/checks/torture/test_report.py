"""The report: what is counted, and when it is bad."""

from __future__ import annotations

import json

from mlflow_image.checks.torture.record import ACKNOWLEDGED, REFUSED, SENT, Call, Outcome
from mlflow_image.checks.torture.report import HALF_THERE, LOST, Report

OUTCOMES = [
    Outcome(Call("run", 1, "r", "r"), ACKNOWLEDGED),
    Outcome(Call("tag", 2, "r", "v"), ACKNOWLEDGED),
    Outcome(Call("tag", 3, "r"), REFUSED),
    Outcome(Call("batch", 4, "r"), SENT),
]


def test_without_a_finding_it_is_good() -> None:
    report = Report("http://s", OUTCOMES, [], 61.0, {"tag: 500": 1})
    assert report.ok
    assert report.sentence() == (
        "lost 0 of 2 acknowledged calls, half there 0; 1 refused; 1 min 01 s"
    )
    assert report.rows()["tag"] == {ACKNOWLEDGED: 1, REFUSED: 1, LOST: 0, HALF_THERE: 0}
    assert json.loads(report.as_json())["refusals"] == {"tag: 500": 1}


def test_what_is_lost_and_what_is_half_there_are_counted_apart() -> None:
    findings = [
        {"kind": "tag", "fault": LOST, "text": "tag 2"},
        {"kind": "batch", "fault": HALF_THERE, "text": "batch 4"},
    ]
    report = Report("http://s", OUTCOMES, findings, 1.0)
    assert not report.ok
    assert report.sentence().startswith("lost 1 of 2 acknowledged calls, half there 1")
    assert report.rows()["batch"][HALF_THERE] == 1
