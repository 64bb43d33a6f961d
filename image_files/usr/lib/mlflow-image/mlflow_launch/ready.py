"""Finds out whether the server really serves: a call through HTTP and the database succeeds.

/health proves nothing: it answers 200 with the database down.
"""

from __future__ import annotations

import functools
import http.client
import importlib
import ipaddress
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow_launch import own_access
from mlflow_launch.log import say, warn

#: mlflow-configure's variable: the socket by which nginx reaches the server; absent: TCP.
SOCKET = "MLFLOW_IMAGE_SOCKET"
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
_TRY_EVERY_S = 0.1
_SAY_EVERY_S = 30.0
_LIMIT_S = 30
_PROXY_STARTS_S = 15.0


def wait(host: str, port: int) -> None:
    """Return once the probe succeeds; log the reason from time to time while it does not."""
    logged_s = time.monotonic()
    while reason := failure(_reachable(host), port):
        if time.monotonic() - logged_s > _SAY_EVERY_S:
            say(f"not ready yet: {reason}")
            logged_s = time.monotonic()
        time.sleep(_TRY_EVERY_S)


def ask_announced(run: Path) -> None:
    """Ask the address that people are told; a warning says so when it does not answer."""
    try:
        url = urlsplit((run / "url").read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return
    if not url.hostname:
        return
    kind: Any = http.client.HTTPConnection
    if url.scheme == "https":
        ssl: Any = importlib.import_module("ssl")
        # Only whether it answers: the certificate is for the clients, and no password is sent.
        kind = functools.partial(
            http.client.HTTPSConnection, context=ssl._create_unverified_context()
        )
    port = url.port or (443 if url.scheme == "https" else 80)
    headers, good = {"Host": url.netloc}, (200, 401)
    deadline_s = time.monotonic() + _PROXY_STARTS_S
    while reason := _answer_to(kind(url.hostname, port, timeout=_LIMIT_S), headers, good):
        if url.scheme == "http" or time.monotonic() > deadline_s:
            break
        time.sleep(_TRY_EVERY_S)  # nginx may still be starting
    if reason:
        warn(f"the announced address {url.geturl()} does not answer: {reason}")


def failure(host: str, port: int, name: str = "localhost") -> str:
    """Why one probe did not succeed; "" when it did. name: the Host header."""
    path = os.environ.get(SOCKET, "")
    connection = _Unix(path) if path else http.client.HTTPConnection(host, port, timeout=_LIMIT_S)
    # localhost is always among the allowed hosts.
    return _answer_to(connection, {"Host": name, **own_access.header()}, (200,))


def _answer_to(
    connection: http.client.HTTPConnection, headers: Mapping[str, str], good: Sequence[int]
) -> str:
    try:
        connection.request("GET", PROBE, headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status in good else f"the server answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


class _Unix(http.client.HTTPConnection):
    """A connection to a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_LIMIT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def listens(host: str, port: int) -> bool:
    """Whether a process accepts connections there."""
    try:
        socket.create_connection((_reachable(host), port), timeout=5).close()
    except OSError:
        return False
    return True


def _reachable(host: str) -> str:
    """An address to connect to, for one to listen on."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host
