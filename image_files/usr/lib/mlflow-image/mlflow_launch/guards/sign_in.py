"""Slows down whoever guesses passwords, and logs the address; never a password or a name.

Checking a password costs MLflow 100 ms of a processor, so guesses at full speed would also keep
everybody else from working. An address that has sent wrong passwords gets 429 (Too Many Requests)
for most further ones, which costs nothing. Credentials that were right before always pass, so that
others behind the same address go on working; MLflow's clients repeat a call after 429.

Source: OWASP, "Blocking Brute Force Attacks" and "Device Cookies".
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from mlflow_launch.log import warn

# Wrong passwords that an address may send at once, and one more after each of these seconds; for
# each worker.
BURST = 10
EVERY_S = 2.0
# Between two lines about the same address.
SAY_EVERY_S = 10.0
# Addresses and right credentials that are remembered.
MOST = 10_000

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_ANSWER = b"Too many wrong passwords from this address: wait a few seconds."


@dataclass
class Attempt:
    """What became of the credentials of a request; None: nothing has looked at them."""

    was_right: bool | None = None


_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def note(was_right: bool) -> None:
    """The credentials of the request in hand were right, or wrong."""
    if attempt := _attempt.get():
        attempt.was_right = was_right


@dataclass
class Address:
    """What is known of one address. left: the passwords that it may still try."""

    left: float = float(BURST)
    at_s: float = field(default_factory=lambda: time.monotonic())
    wrong: int = 0
    said_at_s: float = float("-inf")

    def take(self) -> bool:
        """Whether one more password may be tried now."""
        now_s = time.monotonic()
        self.left = min(float(BURST), self.left + (now_s - self.at_s) / EVERY_S)
        self.at_s = now_s
        if self.left < 1:
            return False
        self.left -= 1
        return True

    def give_back(self) -> None:
        """The password was right, or nothing looked at it."""
        self.left = min(float(BURST), self.left + 1)


class Slowed:
    """An ASGI application that an address cannot flood with wrong passwords."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._addresses: OrderedDict[str, Address] = OrderedDict()
        # What is remembered of right credentials is worthless outside this process.
        self._key = secrets.token_bytes(32)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        given = _credentials(scope)
        if not given:
            await self._app(scope, receive, send)
            return
        digest = hashlib.blake2b(given, key=self._key, digest_size=16).digest()
        name = group_of(scope)
        known = digest in self._right
        address = None if known else self._address(name)
        if address and not address.take():
            self._count(name, address)
            await _refuse(send)
            return

        # A status tells less: /health answers 200 to everybody, and a wrong Host header gets 403.
        attempt = Attempt()
        _attempt.set(attempt)
        try:
            await self._app(scope, receive, send)
        finally:
            if attempt.was_right is False:
                self._right.pop(digest, None)
                self._count(name, address or self._address(name))
            else:
                if attempt.was_right:
                    _remember(self._right, digest, None)
                if address:
                    address.give_back()

    def _address(self, name: str) -> Address:
        found = self._addresses.get(name) or Address()
        _remember(self._addresses, name, found)
        return found

    def _count(self, name: str, address: Address) -> None:
        address.wrong += 1
        now_s = time.monotonic()
        if now_s - address.said_at_s >= SAY_EVERY_S:
            address.said_at_s = now_s
            count = f"{address.wrong} wrong passwords" if address.wrong > 1 else "a wrong password"
            warn(f"sign-in: {count} from {name}")
            address.wrong = 0


def group_of(scope: MutableMapping[str, Any]) -> str:
    """The address that a request comes from; of IPv6 the network of one customer (/64)."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return "an unknown address"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _credentials(scope: MutableMapping[str, Any]) -> bytes:
    """The values of the headers in which MLflow looks for a password."""
    if scope["type"] != "http":
        return b""
    names = (b"authorization", b"x-mlflow-authorization")
    return b"\0".join(value for name, value in scope["headers"] if name in names)


def _remember(where: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    where[key] = value
    where.move_to_end(key)
    while len(where) > MOST:
        where.popitem(last=False)


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_ANSWER)).encode()),
        (b"retry-after", str(int(EVERY_S)).encode()),
    ]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})
