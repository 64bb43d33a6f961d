"""Before the fork the first calls are made; no database connection and no thread is left.

SQLAlchemy is a stand-in, because the host's environment lacks it; test_launch_native.py uses the
real one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import pytest

from mlflow_launch import ready, rehearsal


class Database:
    """A stand-in for SQLAlchemy: its events, and one engine for each call."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[SimpleNamespace], None]] = []
        self.opened = 0
        self.disposed = 0

    def connect(self) -> None:
        self.opened += 1
        engine = SimpleNamespace(dispose=self._dispose)

        class Hashable:
            dispose = staticmethod(engine.dispose)

        for listener in self.listeners:
            listener(SimpleNamespace(engine=Hashable()))

    def _dispose(self) -> None:
        self.disposed += 1


class Application:
    """An ASGI application that answers from a worker thread, as MLflow's Flask part does."""

    def __init__(self, database: Database, status: int) -> None:
        self.scopes: list[dict[str, Any]] = []
        self._database = database
        self._status = status

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await anyio.to_thread.run_sync(self._database.connect)
        if self._status == 0:
            raise RuntimeError("the database is gone")
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()
    event = SimpleNamespace(
        listen=lambda _target, _name, listener: made.listeners.append(listener),
        remove=lambda _target, _name, listener: made.listeners.remove(listener),
    )
    sqlalchemy = SimpleNamespace(event=event, engine=SimpleNamespace(Engine=object))
    monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)  # type: ignore[arg-type]
    return made


def test_each_store_is_called_once_through_the_application(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    application = Application(database, 200)
    rehearsal.rehearse(application)
    paths = [scope["path"] for scope in application.scopes]
    assert paths == ["/api/2.0/mlflow/experiments/get", "/api/2.0/mlflow/registered-models/search"]
    assert application.scopes[0]["query_string"].decode() == ready.PROBE.partition("?")[2]
    assert all(scope["headers"] == [(b"host", b"localhost")] for scope in application.scopes)
    assert "not ready yet" not in capsys.readouterr().err


def test_no_connection_no_listener_and_no_thread_is_left(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    rehearsal.rehearse(Application(database, 200))
    assert (database.opened, database.disposed) == (2, 2)
    assert database.listeners == []
    assert threading.active_count() == before
    assert "threads run" not in capsys.readouterr().err


@pytest.mark.parametrize(("status", "logged"), [(503, "answered 503"), (0, "answered 500")])
def test_a_failed_call_is_logged_and_left_to_the_workers(
    database: Database, status: int, logged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal.rehearse(Application(database, status))
    assert logged in capsys.readouterr().err
    assert database.disposed == 2
