"""Databases of another MLflow: refused with both versions and what to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_launch import schema_revision


def database(path: Path, revision: str) -> Path:
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        made.commit()
    return path


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    known = (frozenset({"aaa", "bbb", "ccc"}), "ccc")
    monkeypatch.setattr(schema_revision, "_migrations", lambda: known)
    return database(tmp_path / "empty.sqlite", "ccc")


def test_a_database_of_this_mlflow_is_served(tmp_path: Path, template: Path) -> None:
    found = database(tmp_path / "a b?.db", "ccc")
    assert schema_revision.difference(f"sqlite:///{found}", template) == ""


def test_an_older_database_needs_an_upgrade_and_the_command_is_named(
    tmp_path: Path, template: Path
) -> None:
    found = database(tmp_path / "old.db", "aaa")
    reason = schema_revision.difference(f"sqlite:///{found}", template)
    assert "has the schema aaa of an older MLflow" in reason
    assert "needs ccc: back it up, then run `sudo mlflow-admin db upgrade` " in reason


def test_a_newer_database_is_refused_without_advice_to_upgrade(
    tmp_path: Path, template: Path
) -> None:
    found = database(tmp_path / "new.db", "ddd")
    reason = schema_revision.difference(f"sqlite:///{found}", template)
    assert "the schema ddd, which MLflow" in reason
    assert "a newer MLflow has written it" in reason
    assert "upgrade" not in reason


@pytest.mark.parametrize("content", [b"", b"no database at all", None])
def test_what_cannot_be_read_is_left_to_mlflow(
    tmp_path: Path, template: Path, content: bytes | None
) -> None:
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    assert schema_revision.difference(f"sqlite:///{path}", template) == ""
    assert path.exists() == (content is not None)


def test_a_replaced_mlflow_counts_with_its_own_newest_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = database(tmp_path / "empty.sqlite", "ccc")
    monkeypatch.setattr(schema_revision, "_migrations", lambda: (frozenset({"ccc", "ddd"}), "ddd"))
    found = database(tmp_path / "new.db", "ddd")
    assert schema_revision.difference(f"sqlite:///{found}", template) == ""
