"""doctor: one row for each tool; a missing tool is shown with its package."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(
    ("text", "ok", "said"),
    [
        ("server: {host: 127.0.0.1}", True, "valid; the server listens on 127.0.0.1"),
        ("server: {host: 10.1.2.3}", True, "valid"),
        ("server: {host: 0.0.0.0}\nauth: {basic: {}}", True, "valid"),
        ("server: {host: 0.0.0.0}", False, "listens on 0.0.0.0 without passwords"),
        ("server: {host: 8.8.8.8}", False, "listens on 8.8.8.8 without passwords"),
        ("server: {port: 1}", False, "server.port"),
    ],
)
def test_settings_in_the_checkout_are_checked_and_open_ones_are_named(
    text: str, ok: bool, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"schema_version: 1\n{text}\n")
    row = doctor.settings_row(file)
    assert row.ok is ok
    assert ok or not row.needed
    assert said in row.found


def test_the_table_marks_what_is_missing_and_what_is_optional() -> None:
    rows = [doctor.Row("a", "", ok=True), doctor.Row("b", "", ok=False)]
    rows.append(doctor.Row("c", "", ok=False, needed=False))
    assert list(doctor.table(rows).columns[0].cells) == ["ok", "MISSING", "no"]
