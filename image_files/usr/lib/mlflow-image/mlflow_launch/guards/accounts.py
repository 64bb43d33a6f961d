"""How a server with users checks passwords, beyond what MLflow does.

The machine's own account is let in by its secret alone (own_access.py). A password that one worker
has changed is forgotten by all workers at once: with MLflow alone the others remember it for a
minute. Guessing is slowed down (sign_in.py).
"""

from __future__ import annotations

import functools
import hmac
import importlib
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

from mlflow_launch import accounts, mlflow_names, own_access, places
from mlflow_launch.guards import limits, sign_in

_FILE = "accounts-changed"
_TIME = struct.Struct("<q")
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
        return user

    @functools.wraps(forget)
    def forget_everywhere(username: str) -> None:
        forget(username)
        changed.note()

    @functools.wraps(make)
    def application(*arguments: Any) -> Any:
        made = make(*arguments)
        accounts.ensure(getattr(module, mlflow_names.AUTH_STORE), os.environ)
        if hasattr(made, "add_middleware"):
            limits.add(made)
            made.add_middleware(sign_in.Slowed)
        return made

    setattr(module, mlflow_names.AUTH_CHECK, authenticate)
    setattr(module, mlflow_names.AUTH_FORGET, forget_everywhere)
    setattr(module, mlflow_names.AUTH_FACTORY, application)


def is_own(password: str) -> bool:
    """Whether this is the machine's own secret."""
    secret = own_access.secret()
    given = password.encode("utf-8", "replace")
    return bool(secret) and hmac.compare_digest(given, secret.encode("ascii"))


class Changed:
    """When an account was changed last, in memory that all workers of a server share.

    Every process that loads the guards maps the same file.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _TIME.size)
            self._shared = mmap.mmap(descriptor, _TIME.size)
        finally:
            os.close(descriptor)
        self._seen = self._shared[:]

    def note(self) -> None:
        """An account was changed."""
        self._shared[:] = _TIME.pack(time.time_ns())

    def since_last_look(self) -> bool:
        """Whether an account was changed since this process looked last."""
        now = self._shared[:]
        if now == self._seen:
            return False
        self._seen = now
        return True
