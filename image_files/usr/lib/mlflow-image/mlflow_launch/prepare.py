"""Bake time: makes the ready-migrated empty database, the list and the bundle of modules."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlflow_launch import bundle, preload, rehearsal
from mlflow_launch.log import say

DESTINATION = Path("/opt/mlflow/share/mlflow-image")
# uvicorn chooses these by name while it starts; mlflow.cli is what the checking child runs.
_IMPORTED_BY_A_SERVER = (
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "mlflow.cli",
    "mlflow.server.fastapi_app",
    *rehearsal.LATE_MODULES,
)
_TABLES_WITH_ROWS = ("alembic_version", "workspaces")
# No -I: it would ignore the seed of the hashes. -B: what an import writes bears its source's time.
_PYTHON = (sys.executable, "-s", "-B")
_CONSTRAINT = re.compile(r"(CONSTRAINT|PRIMARY KEY|FOREIGN KEY|UNIQUE|CHECK)\b")
# A module that the interpreter's own start imports needs no import, and a parent comes first
# anyway: harmless, and simpler than telling them apart.
_OWN_PACKAGES = ("mlflow_launch", "__main__", "__mp_main__", preload.FORBIDDEN)


def main(argv: list[str]) -> int:
    """Write the three files below argv[0] (default: DESTINATION); returns the exit code."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Some modules import others in the order of a set: with a random seed in each process,
        # every bake would list them differently.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [*_PYTHON, sys.argv[0], *argv])  # noqa: S606
    if argv == ["--check-list"]:
        print("\n".join(_without_the_server(sys.stdin.read().split())))
        return 0
    directory = Path(argv[0]) if argv else DESTINATION
    directory.mkdir(parents=True, exist_ok=True)
    database, listed = directory / "empty.sqlite", directory / "preload.txt"
    make_empty_database(database)
    say(f"{database}: {database.stat().st_size} bytes")
    every = _modules_of_a_server(database)
    names = importable_early([name for name in every if _belongs(name)])
    _replace(listed, "".join(f"{name}\n" for name in names).encode())
    say(f"{listed}: {len(names)} modules")
    site = Path(sysconfig.get_path("purelib"))
    compile_the_rest(every, site)
    count = bundle.write(directory / bundle.NAME, every, site)
    say(f"{directory / bundle.NAME}: {count} modules")
    return 0


def make_empty_database(target: Path) -> None:
    """An SQLite file with MLflow's schema at its head and no experiments; always the same bytes.

    In WAL mode, which stays with the file: a commit needs no journal of its own, readers and
    the writer do not wait for each other, and what is acknowledged is on the disk as before
    (SQLite's documentation, "Write-Ahead Logging"; `synchronous` stays FULL).
    Migrating an empty file takes 11 s in an emulated guest, and a kill in the middle of it
    leaves a file on which every later start fails.
    """
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    utils: Any = importlib.import_module("mlflow.store.db.utils")

    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        migrated, packed = Path(scratch) / "migrated", Path(scratch) / "packed"
        engine = sqlalchemy.create_engine(f"sqlite:///{migrated}")
        utils._initialize_tables(engine)
        engine.dispose()
        canonical_copy(migrated, packed)
        engine = sqlalchemy.create_engine(f"sqlite:///{packed}")
        utils._verify_schema(engine)
        engine.dispose()
        with contextlib.closing(sqlite3.connect(packed)) as ready:
            ready.execute("PRAGMA journal_mode = WAL")
        _replace(target, packed.read_bytes())


def compile_the_rest(names: Iterable[str], site: Path) -> None:
    """Bytecode for modules below `site` that were imported and have none, never compared either.

    environment.sh leaves test suites out, and numpy.testing imports a module of numpy's.
    """
    import py_compile  # not above: the list has what a server imports, and this is no part of one

    for name in names:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None or not str(spec.origin).startswith(f"{site}/"):
            continue
        if spec.cached and not Path(spec.cached).exists():
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(spec.origin, doraise=True, invalidation_mode=unchecked)


def importable_early(names: list[str]) -> list[str]:
    """The modules that a fresh process can import without reaching for mlflow.server."""
    again = [*_PYTHON, sys.argv[0], "--check-list"]
    done = subprocess.run(
        again, check=True, input="\n".join(names), stdout=subprocess.PIPE, encoding="utf-8"
    )
    sound = done.stdout.split()
    say(f"{len(names) - len(sound)} modules need mlflow.server: left out of the list")
    return sound


def canonical_copy(source: Path, target: Path) -> None:
    """The same database with tables, constraints and indexes in the order of their names.

    Alembic rebuilds tables from sets of objects, whose order is that of their addresses: no two
    migrations give the same bytes.
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
        # An experiment, for one, would carry the time of the bake.
        raise RuntimeError(f"MLflow's migrations wrote rows into {table}: look whether they fit")
    for row in rows:
        places = ",".join("?" * len(row))
        new.execute(f'INSERT INTO "{table}" VALUES ({places})', row)  # noqa: S608


def _with_sorted_constraints(sql: str) -> str:
    """A CREATE TABLE as SQLAlchemy writes it (one column or constraint a line), in order."""
    start, end = sql.find("(\n\t"), sql.rfind("\n)")
    if start < 0 or end < 0:
        return sql
    parts = re.split(r", ?\n\t", sql[start + 3 : end])
    columns = [part for part in parts if not _CONSTRAINT.match(part)]
    constraints = sorted(part for part in parts if _CONSTRAINT.match(part))
    return sql[: start + 3] + ", \n\t".join(columns + constraints) + sql[end:]


def _without_the_server(names: list[str]) -> list[str]:
    """The modules that can all be imported, in this order, without mlflow.server being reached for.

    Each try is a fork: a module that was refused half-way leaves others behind that would hide
    the next one.
    """
    preload.preload_names([name for name in names if name.partition(".")[0] != "mlflow"])
    while culprits := _first_culprits(names):
        names = [
            name
            for name in names
            # Importing a module imports the packages above it first.
            if not any(f"{name}.".startswith(f"{culprit}.") for culprit in culprits)
        ]
    return names


def _first_culprits(names: list[str]) -> list[str]:
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.close(readable)
        for name in names:
            if reaching := preload.preload_names([name]).reaching:
                os.write(writable, "\n".join({*reaching, name}).encode())
                break
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        culprits = pipe.read().split()
    os.wait()
    return culprits


def _modules_of_a_server(database: Path) -> list[str]:
    """What a server has imported after its first call, in the order in which it did."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "mlflow.db"
        copy.write_bytes(database.read_bytes())
        variables = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{copy}",
            "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{copy}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": scratch,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        os.environ.update(variables)
        for needed in _IMPORTED_BY_A_SERVER:
            importlib.import_module(needed)
        application: Any = importlib.import_module("mlflow.server.fastapi_app").app
        for call, status in zip(
            rehearsal.CALLS, asyncio.run(rehearsal.statuses(application)), strict=True
        ):
            if status != 200:
                raise RuntimeError(f"the trial call {call} gave {status}")
        return list(sys.modules)


def _belongs(name: str) -> bool:
    module = sys.modules.get(name)
    if module is None or getattr(module, "__spec__", None) is None:
        return False
    return not any(name == own or name.startswith(own + ".") for own in _OWN_PACKAGES)


def _replace(target: Path, content: bytes) -> None:
    beside = target.with_name(f".{target.name}.new")
    beside.write_bytes(content)
    beside.chmod(0o644)
    beside.replace(target)
