"""Makes the application with users: the accounts of the settings, and no connection left open."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

from mlflow_launch import mlflow_names, own_access, rehearsal
from mlflow_launch.log import say, warn

#: mlflow-configure writes them beside MLflow's configuration.
USERS = "auth-users.json"
# In the database of users. An account that an administrator has deleted is not made again, also
# not by another machine that replaces this one.
_MADE = "mlflow_image_made_users"


def application() -> Any:
    """MLflow's application with users; its command has made the database and an administrator."""
    module: Any = importlib.import_module(mlflow_names.AUTH)
    with rehearsal.closing_connections():
        made = getattr(module, mlflow_names.AUTH_FACTORY)()
        store = getattr(module, mlflow_names.AUTH_STORE)
        ensure_users(store, Path(os.environ.get(own_access.CONFIG, "")).with_name(USERS))
        own_access.grant(an_administrator(store))
    return made


def ensure_users(store: Any, listed: Path) -> None:
    """Make each account of the file once; one that exists is never changed."""
    try:
        users = json.loads(listed.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    if not users:
        return
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    table = sqlalchemy.Table(
        _MADE,
        sqlalchemy.MetaData(),
        sqlalchemy.Column("username", sqlalchemy.String(255), primary_key=True),
    )
    table.create(store.engine, checkfirst=True)
    with store.engine.connect() as connection:
        known = set(connection.execute(sqlalchemy.select(table.c.username)).scalars())
    for user in users:
        if user["name"] in known:
            continue
        if store.has_user(user["name"]):
            say(f"the user {user['name']} exists: its password and rights stay as they are")
        else:
            store.create_user(user["name"], user["password"], is_admin=user["admin"])
            say(f"created the user {user['name']}")
        with store.engine.begin() as connection:
            connection.execute(table.insert().values(username=user["name"]))


def an_administrator(store: Any) -> str:
    """The name of an administrator: that of the settings, or the first one."""
    wanted = own_access.administrator()
    names = [user.username for user in store.list_users() if user.is_admin]
    if not names:
        warn("no user is an administrator: `sudo mlflow-admin users add NAME --admin` makes one")
    return wanted if wanted in names or not names else str(min(names))
