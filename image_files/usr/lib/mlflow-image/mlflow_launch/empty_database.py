"""The image's empty databases: already migrated, and the same bytes in every build."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_launch import mlflow_names
from mlflow_launch.log import say

_TABLES_WITH_ROWS = ("alembic_version", "alembic_version_auth", "workspaces")
_CONSTRAINT = re.compile(r"(CONSTRAINT|PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK)\b")


def of_runs(target: Path) -> None:
    """Write one for experiments, runs and models."""
    _make(target, _migrate_runs, _verify_runs)


def of_users(target: Path) -> None:
    """Write one for users and permissions."""
    _make(target, _migrate_users, lambda engine: None)


def _make(
    target: Path,
    migrate: Callable[[Any], None],
    verify: Callable[[Any], None],
) -> None:
    """Write an SQLite file with MLflow's newest schema and no content; always the same bytes.

    The file is in WAL mode, which it keeps: a commit needs no journal file, readers and the
    writer do not wait for each other, and an acknowledged commit is on the disk as before
    (SQLite's documentation, "Write-Ahead Logging"; `synchronous` stays FULL).
    Migrating an empty file takes 11 s in an emulated guest, and a kill in the middle of it
    leaves a file on which every later start fails.
    """
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        migrated, packed = Path(scratch) / "migrated", Path(scratch) / "packed"
        engine = sqlalchemy.create_engine(f"sqlite:///{migrated}")
        migrate(engine)
        engine.dispose()
        canonical_copy(migrated, packed)
        engine = sqlalchemy.create_engine(f"sqlite:///{packed}")
        verify(engine)
        engine.dispose()
        with contextlib.closing(sqlite3.connect(packed)) as ready:
            ready.execute("PRAGMA journal_mode = WAL")
        replace(target, packed.read_bytes())
    say(f"{target}: {target.stat().st_size} bytes")


def _migrate_runs(engine: Any) -> None:
    """Make the tables of experiments, runs and models."""
    database: Any = importlib.import_module(mlflow_names.DATABASE)
    getattr(database, mlflow_names.MIGRATE)(engine)


def _verify_runs(engine: Any) -> None:
    """Raise when MLflow would not take the tables."""
    database: Any = importlib.import_module(mlflow_names.DATABASE)
    getattr(database, mlflow_names.VERIFY)(engine)


def _migrate_users(engine: Any) -> None:
    """Make the tables of users and permissions."""
    migrations: Any = importlib.import_module(mlflow_names.AUTH_MIGRATIONS)
    getattr(migrations, mlflow_names.AUTH_MIGRATE)(engine, "head")


def replace(target: Path, content: bytes) -> None:
    """Write a file that everybody may read, whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    temporary.write_bytes(content)
    temporary.chmod(0o644)
    temporary.replace(target)


def canonical_copy(source: Path, target: Path) -> None:
    """Copy a database with its tables, constraints and indexes sorted by name.

    Alembic rebuilds tables from sets of objects, which are ordered by memory address, so that two
    migrations never give the same bytes.
    """
    with contextlib.closing(sqlite3.connect(source)) as old:
        rows = old.execute(
            "SELECT type, name, sql FROM sqlite_master "
            "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' "
            "ORDER BY type != 'table', name"
        ).fetchall()
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as new:
            new.execute("BEGIN")
            for kind, name, sql in rows:
                new.execute(_with_sorted_constraints(sql) if kind == "table" else sql)
                if kind == "table":
                    _copy_rows(old, new, name)
            new.execute("COMMIT")


def _copy_rows(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    rows = sorted(old.execute(f'SELECT * FROM "{table}"').fetchall())  # noqa: S608 - MLflow's name
    if rows and table not in _TABLES_WITH_ROWS:
        # An experiment, for example, would hold the time of the build.
        raise RuntimeError(
            f"MLflow's migrations wrote rows into the table {table}: check that they are the same "
            "in every build, then add it to _TABLES_WITH_ROWS"
        )
    for row in rows:
        places = ",".join("?" * len(row))
        new.execute(f'INSERT INTO "{table}" VALUES ({places})', row)  # noqa: S608


def _with_sorted_constraints(sql: str) -> str:
    """Sort the constraints of a CREATE TABLE as SQLAlchemy writes it: one part a line."""
    start, end = sql.find("(\n\t"), sql.rfind("\n)")
    if start < 0 or end < 0:
        return sql
    parts = re.split(r", ?\n\t", sql[start + 3 : end])
    columns = [part for part in parts if not _CONSTRAINT.match(part)]
    constraints = sorted(part for part in parts if _CONSTRAINT.match(part))
    return sql[: start + 3] + ", \n\t".join(columns + constraints) + sql[end:]
