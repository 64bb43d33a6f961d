"""The smoke test's report: its verdict, its table, its JSON."""

from __future__ import annotations

import io
import json

from rich.console import Console

from mlflow_image.checks.smoke.report import Report, Row

GOOD = Row("written", "tags", "written", "written", True, 0.1)
HASH = Row("read back", "artifact, sha256", "a" * 64, "a" * 64, True, 0.1)
BAD = Row("read back", "artifact, sha256", "a" * 64, "b" * 64, False, 0.1)
WORSE = Row("deleted", "run", "deleted", "still exists", False, 0.1)


def printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200, no_color=True)
    console.print(report.table())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_report_without_rows_is_not_ok() -> None:
    assert not Report("http://x", (), 0.0).ok


def test_the_first_difference_is_the_first_in_order() -> None:
    report = Report("http://x", (GOOD, BAD, WORSE), 1.0)
    assert report.first_difference == BAD
    assert report.difference_text().startswith("read back: artifact, sha256: expected aaa")


def test_the_json_has_the_verdict_and_every_row() -> None:
    document = json.loads(Report("http://x", (GOOD, BAD), 1.0, ("y",)).as_json())
    assert document["ok"] is False
    assert document["first_difference"]["found"] == "b" * 64
    assert [row["what"] for row in document["rows"]] == ["tags", "artifact, sha256"]
    assert document["left_behind"] == ["y"]


def test_the_table_shows_both_sides_in_full_only_when_they_differ() -> None:
    assert "b" * 64 in printed(Report("http://x", (BAD,), 1.0))
    assert "a" * 64 not in printed(Report("http://x", (HASH,), 1.0))
