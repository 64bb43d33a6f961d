"""Before the fork: both stores are called, and every engine gives its connections back.

With stand-ins for MLflow and SQLAlchemy, which this host's environment lacks;
tests/system/test_launch_native.py looks at the real ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mlflow_launch import ready, stores


class StandIn:
    """mlflow.server's client and SQLAlchemy's events: every call goes through a new engine."""

    def __init__(self, status_code: int) -> None:
        self.calls: list[str] = []
        self.disposed: list[str] = []
        self.listeners: list[Callable[[SimpleNamespace], None]] = []
        self._status_code = status_code

    def get(self, path: str, headers: dict[str, str]) -> SimpleNamespace:
        assert headers == {"Host": "localhost"}
        self.calls.append(path)

        class Engine:
            def dispose(_) -> None:  # noqa: N805
                self.disposed.append(path)

        for listener in self.listeners:
            listener(SimpleNamespace(engine=Engine()))
        return SimpleNamespace(status_code=self._status_code)


@pytest.fixture
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(getattr(request, "param", 200))
    event = SimpleNamespace(
        listen=lambda _target, _name, listener: made.listeners.append(listener),
        remove=lambda _target, _name, listener: made.listeners.remove(listener),
    )
    sqlalchemy = SimpleNamespace(event=event, engine=SimpleNamespace(Engine=object))
    server = SimpleNamespace(app=SimpleNamespace(test_client=lambda: made))
    monkeypatch.setitem(sys.modules, "sqlalchemy", sqlalchemy)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mlflow.server", server)  # type: ignore[arg-type]
    return made


def test_both_stores_are_called_and_give_their_connections_back(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.open_once()
    assert stand_in.calls[0] == ready.PROBE
    assert "registered-models" in stand_in.calls[1]
    assert sorted(stand_in.disposed) == sorted(stand_in.calls)
    assert stand_in.listeners == []
    assert "the stores are open (2 databases)" in capsys.readouterr().err


@pytest.mark.parametrize("stand_in", [503], indirect=True)
def test_a_store_that_fails_is_said_and_left_to_the_workers(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stores.open_once()
    assert "gave 503" in capsys.readouterr().err
    assert len(stand_in.disposed) == 2
