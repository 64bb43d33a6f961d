"""What a worker of a server with users remembers, instead of reading it for each call.

MLflow reads a run with all its metrics to learn its experiment, which never changes; the caller's
account twice more after it has checked the password; and what the caller may do. Who is an
administrator is remembered as long as the password is (accounts.py). A permission that this server
changes is in force at once in all its workers; one that another server with the same database has
changed, within GRANTS_S. But MLflow's own decisions about a call deny nothing without asking the
database: a client may use on one server what it has made a moment ago on another one. Without all
this, `log_batch` of an ordinary user takes twice as long as on an open server.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from mlflow_launch import mlflow_names, places
from mlflow_launch.guards.changed import Changed

GRANTS_S = 10.0
_FILE = "permissions-changed"
_FORBIDDEN = 403
_RUNS = 20_000
_GRANTS = 20_000

_caller: ContextVar[Any] = ContextVar("caller", default=None)
_only_its_id: ContextVar[bool] = ContextVar("only_its_id", default=False)
#: Whether grants are read from the database, and whether the last ones were remembered.
_ask_again: ContextVar[bool] = ContextVar("ask_again", default=False)
_remembered: ContextVar[bool] = ContextVar("remembered", default=False)


class _NoRunError(Exception):
    """The run does not exist."""


def note(user: Any) -> None:
    """The account that has just given its password with this request."""
    _caller.set(user)


def mend(module: Any) -> None:
    """Change the lookups, where MLflow has them. module: mlflow_names.AUTH."""
    store = getattr(module, mlflow_names.AUTH_STORE)
    if all(hasattr(module, name) for name in mlflow_names.AUTH_LOOKUPS):
        _remember_experiments(module)
        _remember_the_caller(module, store)
    if hasattr(store, mlflow_names.AUTH_GRANTS):
        _remember_grants(store, Changed(places.unit_directory() / _FILE))
        for name in filter(functools.partial(hasattr, module), mlflow_names.AUTH_DECISIONS):
            setattr(module, name, _deny_nothing_from_memory(getattr(module, name)))


def _remember_experiments(module: Any) -> None:
    needed = getattr(module, mlflow_names.AUTH_NEEDED_FOR_RUN)

    @functools.lru_cache(maxsize=_RUNS)
    def known(run_id: str, action: str) -> tuple[Any, tuple[Any, ...]]:
        found = needed(run_id, action)
        if found is None:
            raise _NoRunError
        anchor, requirements = found
        return anchor, tuple(requirements)

    @functools.wraps(needed)
    def needed_for_run(run_id: str, action: str) -> Any:
        try:
            anchor, requirements = known(run_id, action)
        except _NoRunError:
            return None
        return anchor, list(requirements)  # a copy: MLflow adds to it

    setattr(module, mlflow_names.AUTH_NEEDED_FOR_RUN, needed_for_run)


def _remember_grants(store: Any, changed: Changed) -> None:
    read, connect = getattr(store, mlflow_names.AUTH_GRANTS), store.init_db
    known: dict[Any, tuple[bytes, float, tuple[Any, ...]]] = {}

    @functools.wraps(read)
    def list_grants(user_id: int, workspace: str, resource_types: Any) -> list[Any]:
        key = (user_id, workspace, frozenset(resource_types))
        # Before the database is asked: what is committed meanwhile has a later stamp.
        stamp, now_s = changed.stamp(), time.monotonic()
        found = None if _ask_again.get() else known.get(key)
        if found and found[0] == stamp and now_s < found[1]:
            _remembered.set(True)
            return list(found[2])
        _remembered.set(False)
        grants: list[Any] = read(user_id, workspace, resource_types)
        if len(known) >= _GRANTS:
            known.clear()
        known[key] = (stamp, now_s + GRANTS_S, tuple(grants))
        return grants

    @functools.wraps(connect)
    def init_db(*arguments: Any, **named: Any) -> None:
        connect(*arguments, **named)
        sessions = getattr(store, mlflow_names.AUTH_SESSIONS)
        setattr(store, mlflow_names.AUTH_SESSIONS, _noting(sessions, changed))

    setattr(store, mlflow_names.AUTH_GRANTS, list_grants)
    store.init_db = init_db


def _deny_nothing_from_memory(decide: Any) -> Any:
    """The same decision; a denial that rests on remembered grants is made again without them."""

    @functools.wraps(decide)
    def decided(*arguments: Any) -> Any:
        _remembered.set(False)
        found = decide(*arguments)
        is_denied = found is False or getattr(found, "status_code", 0) == _FORBIDDEN
        if not (is_denied and _remembered.get()):
            return found
        token = _ask_again.set(True)
        try:
            return decide(*arguments)
        finally:
            _ask_again.reset(token)

    return decided


def _noting(sessions: Any, changed: Changed) -> Any:
    """The same sessions; those that may write are noted once they are committed."""

    @contextlib.contextmanager
    def session(read_only: bool = True) -> Iterator[Any]:
        try:
            with sessions(read_only=read_only) as given:
                yield given
        finally:
            if not read_only:
                changed.note()

    return session


def _remember_the_caller(module: Any, store: Any) -> None:
    is_admin = getattr(module, mlflow_names.AUTH_IS_ADMIN)
    resolve = getattr(module, mlflow_names.AUTH_RESOLVE)
    read = store.get_user

    @functools.wraps(is_admin)
    def caller_is_admin() -> Any:
        caller = _caller.get()
        name = getattr(module, mlflow_names.AUTH_REQUEST)().username
        return caller.is_admin if caller and caller.username == name else is_admin()

    @functools.wraps(resolve)
    def resolve_permissions(*arguments: Any) -> Any:
        token = _only_its_id.set(True)
        try:
            return resolve(*arguments)
        finally:
            _only_its_id.reset(token)

    @functools.wraps(read)
    def get_user(username: str) -> Any:
        caller = _caller.get()
        if _only_its_id.get() and caller and caller.username == username:
            return caller
        return read(username)

    setattr(module, mlflow_names.AUTH_IS_ADMIN, caller_is_admin)
    setattr(module, mlflow_names.AUTH_RESOLVE, resolve_permissions)
    store.get_user = get_user
