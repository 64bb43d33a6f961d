"""The accounts that a server with users begins with: those of the settings, and its own."""

from __future__ import annotations

import hashlib
import importlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow_launch import own_access
from mlflow_launch.log import say

#: The variable with the path of MLflow's configuration; the file of the users lies beside it.
CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
USERS = "auth-users.json"
# In the database of users. An account that an administrator has deleted is not made again, also
# not by another machine that replaces this one.
_MADE = "mlflow_image_made_users"


def ensure(store: Any, environment: Mapping[str, str]) -> None:
    """Make what is missing. store: MLflow's, of users. Other processes may do the same now."""
    ensure_own(store)
    if path := environment.get(CONFIG):
        ensure_users(store, Path(path).with_name(USERS))


def ensure_own(store: Any) -> None:
    """The machine's own account is an administrator that nobody knows a password of."""
    if not store.has_user(own_access.NAME):
        _create(store, own_access.NAME, secrets.token_urlsafe(32), is_admin=True)
    elif not store.get_user(own_access.NAME).is_admin:
        store.update_user(own_access.NAME, is_admin=True)


def forms_key(store: Any) -> bytes:
    """What MLflow's forms are signed with: the same on every server with this database.

    Made of the hash of a random password that nobody knows and that never changes.
    """
    hashed = store.get_user(own_access.NAME).password_hash
    return hashlib.sha256(f"forms of {hashed}".encode()).digest()


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
    try:
        table.create(store.engine, checkfirst=True)
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
        # Another server that starts at the same moment may have made it.
        if not sqlalchemy.inspect(store.engine).has_table(_MADE):
            raise
    with store.engine.connect() as connection:
        known = set(connection.execute(sqlalchemy.select(table.c.username)).scalars())
    for user in users:
        name = user["name"]
        if name in known:
            continue
        if store.has_user(name):
            say(f"the user {name} exists: its password and rights stay as they are")
        elif _create(store, name, user["password"], is_admin=user["admin"]):
            say(f"created the user {name}")
        try:
            with store.engine.begin() as connection:
                connection.execute(table.insert().values(username=name))
        except sqlalchemy.exc.IntegrityError:
            say(f"another server has noted the user {name} at the same time")


def _create(store: Any, name: str, password: str, *, is_admin: bool) -> bool:
    """Whether this process has made the account, and no other one."""
    exceptions: Any = importlib.import_module("mlflow.exceptions")
    try:
        store.create_user(name, password, is_admin=is_admin)
    except exceptions.MlflowException:
        if not store.has_user(name):
            raise
        return False
    return True
