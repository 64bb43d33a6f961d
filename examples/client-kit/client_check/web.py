"""One HTTP request, without mlflow: what a server answers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from client_check import environment, network, tls
from client_check.network import LIMIT_S, Target
from client_check.report import Fault

_LONGEST = 200_000


@dataclass(frozen=True)
class Answer:
    """A response. text: its beginning."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def document(self) -> Any:
        """Its JSON; None for another text."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def excerpt(self) -> str:
        """What it says, in one line."""
        found = self.document
        text = str(found.get("message", self.text)) if isinstance(found, dict) else self.text
        return " ".join(text.split())[:160]


def ask(
    goal: Target,
    path: str,
    trust: ssl.SSLContext | None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> Answer:
    """Send one request. Raises Fault when nothing answers in HTTP, OSError for TLS."""
    sent = {"Host": goal.netloc, "User-Agent": "mlflow-client-check", "Connection": "close"}
    sent.update(headers or {})
    if goal.proxy and goal.scheme == "http":
        path = f"http://{goal.netloc}{path}"
        for line in network.proxy_headers(goal):
            name, _, value = line.partition(": ")
            sent[name] = value
    connection = http.client.HTTPConnection(goal.host, goal.port, timeout=LIMIT_S)
    with tls.connected(goal, trust) as made:
        connection.sock = made
        try:
            connection.request(method, path, headers=sent)
            found = connection.getresponse()
            text = found.read(_LONGEST).decode("utf-8", "replace")
        except (http.client.HTTPException, OSError) as error:
            raise _silent(goal, error) from error
        finally:
            connection.close()
    named = {name.lower(): value for name, value in found.getheaders()}
    return Answer(found.status, named, text)


def _silent(goal: Target, error: Exception) -> Fault:
    place = f"{goal.host} port {goal.port}"
    if "timed out" in str(error):
        what = f"{place} takes the connection, but does not answer within {LIMIT_S:g} s"
        return Fault(what, "is it the server's port? else the server hangs: look at its journal")
    if goal.scheme == "http" and not goal.proxy and tls.speaks(goal):
        return Fault(f"{place} speaks HTTPS", f"write https:// in {goal.variable}")
    what = f"{place} does not answer in HTTP ({type(error).__name__})"
    return Fault(what, f"another program listens there: correct the port in {goal.variable}")


def sign_in() -> dict[str, str]:
    """The header with which MLflow's client signs in."""
    if pair := environment.account():
        return {"Authorization": f"Basic {base64.b64encode(':'.join(pair).encode()).decode()}"}
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN", ""):
        return {"Authorization": f"Bearer {token}"}
    return {}
