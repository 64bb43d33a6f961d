"""Refuses a database whose schema is not that of this image's MLflow, before MLflow touches it.

MLflow migrates an older database silently where the newer one has more tables, and restarts for
ever on others. Which of the two is newer is read from MLflow's own list of migrations, and only
where they differ.
"""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_launch import mlflow_names
from mlflow_launch.stores import postgresql

SQLITE = "sqlite:///"


def difference(uri: str, template: Path) -> str:
    """Why the server must not start on this database, and what to do; "" when it may.

    uri: of an SQLite file, or of PostgreSQL, which opens a connection. template: the image's empty
    database. A database that cannot be read is left to MLflow: it says why.
    """
    if uri.startswith(SQLITE):
        place = uri[len(SQLITE) :]
        found = _revision(place, "mode=ro")
    else:
        place = "the database"
        found = postgresql.revision(uri)
    if not found or found == _revision(str(template), "immutable=1"):
        return ""
    known, newest = _migrations()
    if not newest or found == newest:  # MLflow was replaced after the image was built
        return ""
    version = mlflow_names.version()
    if found in known:
        return (
            f"{place} has the schema {found} of an older MLflow, and MLflow {version} needs "
            f"{newest}: back it up, then run `sudo mlflow-admin db upgrade` and "
            "`sudo systemctl restart mlflow-tracking`"
        )
    return (
        f"{place} has the schema {found}, which MLflow {version} does not know (its own is "
        f"{newest}): a newer MLflow has written it. Boot an image with that MLflow; nothing has "
        "been changed"
    )


def _revision(path: str, how: str) -> str:
    """The schema revision in an SQLite file; "" when there is none or it cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?{how}", uri=True)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return ""
    return str(row[0]) if row else ""


def _migrations() -> tuple[frozenset[str], str]:
    """All revisions that the installed MLflow knows, and the newest; none where it differs."""
    try:
        module: Any = importlib.import_module(mlflow_names.DATABASE)
        config = getattr(module, mlflow_names.ALEMBIC_CONFIG)("")
        script = module.ScriptDirectory.from_config(config)
        every = frozenset(str(one.revision) for one in script.walk_revisions())
        return every, str(script.get_current_head())
    except (ImportError, AttributeError, TypeError):
        return frozenset(), ""
