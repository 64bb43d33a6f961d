"""What a worker remembers of rights: for how long, and until which change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_launch.guards import permissions
from mlflow_launch.guards.changed import Changed


class Store:
    """Has the methods of MLflow's store of users, and counts what is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.grants = ["READ"]

    def init_db(self, _uri: str) -> None:
        @contextlib.contextmanager
        def sessions(read_only: bool = True) -> Iterator[str]:
            yield "session"

        self.ManagedSessionMaker = sessions

    def list_grants(self, user_id: int, workspace: str, resource_types: set[str]) -> list[str]:
        self.reads += 1
        return list(self.grants)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(permissions.time, "monotonic", lambda: found.now_s)
    return found


def prepared(folder: Path) -> Any:
    store: Any = Store()
    permissions._remember_grants(store, Changed(folder / "changed"))
    store.init_db("sqlite://")
    return store


def test_what_another_server_has_changed_counts_after_ten_seconds(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    store = prepared(tmp_path)
    assert store.list_grants(1, "default", {"run"}) == ["READ"]
    store.grants = ["DENY"]
    clock.now_s += permissions.GRANTS_S - 0.1
    assert store.list_grants(1, "default", {"run"}) == ["READ"]
    clock.now_s += 0.2
    assert store.list_grants(1, "default", {"run"}) == ["DENY"]
    assert store.reads == 2
    assert permissions.GRANTS_S == 10


def test_what_any_worker_of_this_server_has_changed_counts_at_once(
    tmp_path: Path, clock: SimpleNamespace
) -> None:
    one, other = prepared(tmp_path), prepared(tmp_path)
    assert one.list_grants(1, "default", {"run"}) == ["READ"]
    with other.ManagedSessionMaker() as session:
        assert session == "session"
    one.grants = ["DENY"]
    assert one.list_grants(1, "default", {"run"}) == ["READ"]  # nothing was written
    with other.ManagedSessionMaker(read_only=False):
        pass
    assert one.list_grants(1, "default", {"run"}) == ["DENY"]


def test_the_grants_of_each_user_and_kind_are_apart(tmp_path: Path, clock: SimpleNamespace) -> None:
    store = prepared(tmp_path)
    for user, kinds in ((1, {"run"}), (2, {"run"}), (1, {"run", "experiment"}), (1, {"run"})):
        store.list_grants(user, "default", kinds)
    assert store.reads == 3


def test_a_denial_is_never_from_memory(tmp_path: Path, clock: SimpleNamespace) -> None:
    store = prepared(tmp_path)

    def authorize(user_id: int, wanted: str) -> bool:
        return wanted in store.list_grants(user_id, "default", {"run"})

    def before_request() -> object:
        return None if authorize(1, "MANAGE") else SimpleNamespace(status_code=403)

    decided = permissions._deny_nothing_from_memory(authorize)
    asked = permissions._deny_nothing_from_memory(before_request)
    assert decided(1, "READ")
    # Another server with the same database gives a right; this one has read a moment ago.
    store.grants = ["READ", "MANAGE"]
    assert decided(1, "MANAGE")
    assert store.reads == 2
    assert decided(1, "MANAGE")  # what was read anew is remembered
    assert asked() is None
    assert store.reads == 2
    store.grants = ["READ"]
    assert asked() is None  # for GRANTS_S
    clock.now_s += permissions.GRANTS_S + 1
    assert asked().status_code == 403
    assert store.reads == 3  # a denial that was read costs no second look
