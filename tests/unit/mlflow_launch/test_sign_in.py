"""Wrong passwords are slowed down and logged by address; right ones pass."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from mlflow_launch.guards import sign_in

RIGHT = "correct horse battery"


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Looks at the password of every path but /health, as MLflow does."""
    status = 200
    if scope["path"] != "/health":
        given = base64.b64decode(dict(scope["headers"])[b"authorization"].split()[1]).decode()
        sign_in.note(given.endswith(":" + RIGHT))
        status = 200 if given.endswith(":" + RIGHT) else 401
    await send({"type": "http.response.start", "status": status, "headers": []})


def ask(door: sign_in.Slowed, password: str, address: str = "192.0.2.7", path: str = "/api") -> int:
    encoded = base64.b64encode(f"ana:{password}".encode())
    scope = {
        "type": "http",
        "path": path,
        "client": (address, 4000),
        "headers": [(b"authorization", b"Basic " + encoded)],
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(door(scope, receive, send))
    return statuses[0]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> sign_in.Slowed:
    monkeypatch.setattr(sign_in.time, "monotonic", lambda: 1000.0)
    return sign_in.Slowed(application)


def test_after_ten_wrong_passwords_an_address_waits(door: sign_in.Slowed) -> None:
    assert [ask(door, f"guess {one}") for one in range(12)] == [401] * 10 + [429] * 2
    assert ask(door, "guess", "192.0.2.8") == 401


def test_it_may_try_again_after_a_while(
    door: sign_in.Slowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in range(12):
        ask(door, f"guess {one}")
    monkeypatch.setattr(sign_in.time, "monotonic", lambda: 1002.1)
    assert [ask(door, RIGHT), ask(door, "guess"), ask(door, "guess")] == [200, 401, 429]


def test_a_password_that_was_right_passes_during_an_attack_from_the_same_address(
    door: sign_in.Slowed,
) -> None:
    ask(door, RIGHT)
    for one in range(50):
        ask(door, f"guess {one}")
    assert [ask(door, RIGHT) for _ in range(20)] == [200] * 20


def test_right_passwords_are_never_counted(door: sign_in.Slowed) -> None:
    assert {ask(door, RIGHT) for _ in range(30)} == {200}
    assert [ask(door, f"guess {one}") for one in range(10)] == [401] * 10


def test_a_page_that_asks_for_no_password_lets_no_guess_pass(door: sign_in.Slowed) -> None:
    for one in range(10):
        ask(door, f"guess {one}")
    assert ask(door, "the guess", path="/health") == 429
    other = "192.0.2.9"
    assert {ask(door, f"guess {one}", other, "/health") for one in range(30)} == {200}
    assert [ask(door, f"guess {one}", other) for one in range(11)] == [401] * 10 + [429]


def test_the_journal_has_the_address_and_no_password(
    door: sign_in.Slowed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in range(40):
        ask(door, f"guess {one}")
    monkeypatch.setattr(sign_in.time, "monotonic", lambda: 1011.0)
    ask(door, "guess")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("sign-in: a wrong password from 192.0.2.7")
    assert second.endswith("sign-in: 40 wrong passwords from 192.0.2.7")
    assert "guess" not in first + second


@pytest.mark.parametrize(
    ("client", "group"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (None, "an unknown address"),
        (("", 0), "an unknown address"),
    ],
)
def test_an_attacker_cannot_change_his_address_at_will(client: Any, group: str) -> None:
    assert sign_in.group_of({"client": client}) == group
