"""How a server with users checks passwords, beyond what MLflow does.

The machine's own account is let in by its secret alone (own_access.py). A password that one worker
has changed is forgotten by all workers at once: with MLflow alone the others remember it for a
minute. Guessing is slowed down (sign_in.py).
"""

from __future__ import annotations

import functools
import hmac
import importlib
import os
from typing import Any

from mlflow_launch import accounts, mlflow_names, own_access, places
from mlflow_launch.guards import limits, permissions, sign_in
from mlflow_launch.guards.changed import Changed

_FILE = "accounts-changed"
# A hash of MLflow's kind (werkzeug.security) that no password has.
_NOBODY = "scrypt:32768:8:1$nobodynobody1234$" + "0" * 128


def mend(module: Any) -> None:
    """Change the checks and the application. module: mlflow_names.AUTH."""
    check = getattr(module, mlflow_names.AUTH_CHECK)
    forget = getattr(module, mlflow_names.AUTH_FORGET)
    make = getattr(module, mlflow_names.AUTH_FACTORY)
    changed = Changed(places.unit_directory() / _FILE)

    @functools.wraps(check)
    def authenticate(username: str, password: str) -> Any:
        if changed.since_last_look():
            with getattr(module, mlflow_names.AUTH_CACHE_LOCK):
                cache = getattr(module, mlflow_names.AUTH_CACHE)
                if cache is not None:
                    cache.clear()
        permissions.note(None)
        store = getattr(module, mlflow_names.AUTH_STORE)
        if username == own_access.NAME:
            own = is_own(password)
            sign_in.note(own)
            return store.get_user(username) if own else None
        user = check(username, password)
        if user is None and not store.has_user(username):
            # Else the time that an answer takes would tell which names exist.
            security: Any = importlib.import_module("werkzeug.security")
            security.check_password_hash(_NOBODY, password)
        sign_in.note(user is not None)
        permissions.note(user)
        return user

    @functools.wraps(forget)
    def forget_everywhere(username: str) -> None:
        forget(username)
        changed.note()

    @functools.wraps(make)
    def application(*arguments: Any) -> Any:
        made = make(*arguments)
        store = getattr(module, mlflow_names.AUTH_STORE)
        accounts.ensure(store, os.environ)
        # Another server with the same database may get the form that this one has made.
        getattr(module, mlflow_names.AUTH_FLASK).secret_key = accounts.forms_key(store)
        if hasattr(made, "add_middleware"):
            limits.add(made)
            made.add_middleware(sign_in.Slowed)
        return made

    setattr(module, mlflow_names.AUTH_CHECK, authenticate)
    setattr(module, mlflow_names.AUTH_FORGET, forget_everywhere)
    setattr(module, mlflow_names.AUTH_FACTORY, application)
    permissions.mend(module)


def is_own(password: str) -> bool:
    """Whether this is the machine's own secret."""
    secret = own_access.secret()
    given = password.encode("utf-8", "replace")
    return bool(secret) and hmac.compare_digest(given, secret.encode("ascii"))
