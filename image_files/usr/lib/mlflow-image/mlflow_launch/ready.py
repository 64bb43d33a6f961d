"""Finds out whether the server really serves: a call through HTTP and the database succeeds.

/health is no proof: it says 200 with the database down.
"""

from __future__ import annotations

import http.client
import ipaddress
import time

from mlflow_launch.log import say

PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
_TRY_EVERY_S = 0.1
_SAY_EVERY_S = 30.0


def wait(host: str, port: int) -> None:
    """Return once the probe succeeds; say from time to time why it does not."""
    said_s = time.monotonic()
    while reason := failure(host, port):
        if time.monotonic() - said_s > _SAY_EVERY_S:
            say(f"not ready yet: {reason}")
            said_s = time.monotonic()
        time.sleep(_TRY_EVERY_S)


def failure(host: str, port: int) -> str:
    """Why one probe did not succeed; "" when it did."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        # localhost is always among the allowed hosts; a public address is not.
        connection.request("GET", PROBE, headers={"Host": "localhost"})
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status == 200 else f"the server answered {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
