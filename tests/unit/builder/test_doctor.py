"""doctor: one row for each tool; a missing tool is shown with its package."""

from __future__ import annotations

import pytest

from mlflow_image.builder import doctor


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> doctor.Row:
    """The row of a tool that this host does not have."""
    where = doctor.where
    monkeypatch.setattr(doctor, "where", lambda tool: None if tool == name else where(tool))
    (row,) = [row for row in doctor.tools() if row.what == name]
    return row


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    row = without("sfdisk", monkeypatch)
    assert not row.ok
    assert row.needed
    assert row.found == "missing: partitions the disk (apt install fdisk)"


def test_a_remedy_is_shown_only_for_what_is_missing() -> None:
    rows = [doctor.Row("disk", "9 GB free", ok, remedy="`invoke clean`") for ok in (True, False)]
    assert list(doctor.table(rows).columns[2].cells) == ["9 GB free", "9 GB free: `invoke clean`"]


def test_the_table_marks_what_is_missing_and_what_is_optional() -> None:
    rows = [doctor.Row("a", "", ok=True), doctor.Row("b", "", ok=False)]
    rows.append(doctor.Row("c", "", ok=False, needed=False))
    assert list(doctor.table(rows).columns[0].cells) == ["ok", "MISSING", "no"]
