"""Finds out whether the server really serves: a call through HTTP and the database succeeds.

/health proves nothing: it answers 200 with the database down.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_launch import own_access
from mlflow_launch.log import say, warn

PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
_TRY_EVERY_S = 0.1
_SAY_EVERY_S = 30.0


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
    if url.hostname and (reason := failure(url.hostname, url.port or 80, url.netloc)):
        warn(f"the announced address {url.geturl()} does not answer: {reason}")


def failure(host: str, port: int, name: str = "localhost") -> str:
    """Why one probe did not succeed; "" when it did. name: the Host header."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        # localhost is always among the allowed hosts.
        connection.request("GET", PROBE, headers={"Host": name, **own_access.header()})
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status == 200 else f"the server answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


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
