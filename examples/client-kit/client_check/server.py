"""The server: whether it is MLflow, takes this Host name and this account, and what time it has."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from client_check import environment, network, tls, web
from client_check.network import Target
from client_check.report import Fault, OutOfDate, Unknown
from client_check.web import Answer

#: The variables that name the CA of the server's certificate, the first that is set.
CA = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
INFO = "/api/3.0/mlflow/server-info"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
#: Seconds. Kerberos gives up at 300, S3 at 900.
_APART_S = 120
_LOOK = "look at the server: `sudo journalctl -u mlflow-tracking`"


@dataclass
class Server:
    """One server, asked in the order of these functions."""

    goal: Target
    #: What it says of itself, where it says so.
    version: str = ""
    info: dict[str, object] = field(default_factory=dict)

    @property
    def trust(self) -> ssl.SSLContext | None:
        """How its certificate is checked."""
        if self.goal.scheme == "http":
            return None
        if environment.is_true("MLFLOW_TRACKING_INSECURE_TLS"):
            return tls.unverified()
        return tls.context(CA)

    def ask(self, path: str, *, signed_in: bool = False) -> Answer:
        headers = web.sign_in() if signed_in else {}
        return web.ask(self.goal, f"{self.goal.prefix}{path}", self.trust, headers)

    def resolve(self) -> str:
        return network.resolve(self.goal)

    def connect(self) -> str:
        network.connect(self.goal).close()
        if self.goal.proxy:
            return f"through the proxy {self.goal.shown_proxy}"
        return f"{self.goal.port} is open"

    def secure(self) -> str:
        if self.goal.scheme == "http":
            return "none: the address is http://, and passwords travel unencrypted"
        if environment.is_true("MLFLOW_TRACKING_INSECURE_TLS"):
            raise Fault(
                "MLFLOW_TRACKING_INSECURE_TLS is set: anyone may pretend to be the server",
                f"unset it, and set {CA[0]} to the CA's certificate",
            )
        try:
            return tls.check(self.goal, CA)
        except OutOfDate as fault:
            if abs(self._ahead() or 0) > _APART_S:
                remedy = "correct this machine's clock: see the line clock"
                raise Fault(fault.what, remedy) from fault
            raise

    def identify(self) -> str:
        """Whether MLflow answers to this name; nobody needs a password for that."""
        found = self.ask(INFO)
        document = found.document
        if found.status == 200 and isinstance(document, dict) and "store_type" in document:
            self.info = document
            return f"MLflow answers to the name {self.goal.netloc}"
        self._object(found)
        # Servers before MLflow 3 do not know the question.
        older = self.ask(SEARCH)
        self._object(older)
        says_mlflow = "mlflow" in older.headers.get("www-authenticate", "").lower()
        if says_mlflow or (older.status == 200 and isinstance(older.document, dict)):
            return f"an older MLflow answers to the name {self.goal.netloc}"
        raise self._foreign(older)

    def _object(self, found: Answer) -> None:
        """Raise what an answer means, if it means something that is known."""
        goal, name = self.goal, self.goal.netloc
        if found.status == 403 and "host header" in found.text.lower():
            raise Fault(
                f"the server refuses the name {name} (status 403, Host header)",
                f"add {name} to server.allowed_hosts in its settings, or use a name that is there",
            )
        if 300 <= found.status < 400:
            place = found.headers.get("location", "").split("/api/")[0]
            raise Fault(
                f"the server redirects to {place}", f"write that address in {goal.variable}"
            )
        if "http request" in found.text.lower() and "https port" in found.text.lower():
            raise Fault(f"port {goal.port} speaks HTTPS", f"write https:// in {goal.variable}")
        if found.status >= 500 or found.status in (403, 407):
            if goal.proxy:
                raise Fault(
                    f"the proxy {goal.shown_proxy} answers status {found.status} "
                    f"instead of the server",
                    network.around(goal),
                )
            if found.status >= 500:
                raise Fault(f"the server answers status {found.status}: it is not ready", _LOOK)

    def _foreign(self, found: Answer) -> Fault:
        if self.goal.proxy:
            return Fault(
                f"something answers that is no MLflow server (status {found.status}), "
                f"perhaps the proxy {self.goal.shown_proxy}",
                network.around(self.goal),
            )
        return Fault(
            f"a web server answers that is no MLflow server (status {found.status})",
            f"correct the name, the port and the path in {self.goal.variable}",
        )

    def clock(self) -> str:
        """This machine's clock against the server's."""
        ahead = self._ahead()
        if ahead is None:
            raise Unknown("the server says no time")
        if abs(ahead) <= _APART_S:
            return f"{abs(ahead):.0f} s from the server's"
        where = "ahead of" if ahead > 0 else "behind"
        raise Fault(
            f"this machine's clock is {_shown(abs(ahead))} {where} the server's",
            "set the one that is wrong (`timedatectl set-ntp true`): certificates, keys of S3 and "
            "tickets of Kerberos depend on it",
        )

    def _ahead(self) -> float | None:
        """Seconds; None when the server says no time. A bad certificate does not matter here."""
        trust = tls.unverified() if self.goal.scheme == "https" else None
        found: Answer | None = None
        with contextlib.suppress(Fault, OSError):
            found = web.ask(self.goal, f"{self.goal.prefix}/health", trust)
        now = time.time()
        try:
            there = parsedate_to_datetime(found.headers["date"]).timestamp() if found else None
        except (KeyError, TypeError, ValueError):
            return None
        return None if there is None else now - there

    def sign_in(self) -> str:
        """Whether the server takes the account, or needs none."""
        pair, token = environment.account(), os.environ.get("MLFLOW_TRACKING_TOKEN", "")
        environment.require_replaced("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        found = self.ask(SEARCH, signed_in=True)
        if found.status == 401 and not (pair or token):
            raise Fault(
                "the server asks for a name and a password, and none is set",
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in .env",
            )
        if found.status == 401:
            who = f"the name {pair[0]} or its password" if pair else "the token"
            raise Fault(
                f"the server refuses {who}",
                "correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in .env; an "
                "administrator sets a new one: `sudo mlflow-admin users passwd NAME`",
            )
        if found.status == 429:
            raise Fault(
                "too many wrong passwords were sent from this address (status 429)",
                "correct the password, also in programs that still run, and wait some seconds",
            )
        if found.status == 403:
            raise Fault(
                f"the account may not list experiments (status 403: {found.excerpt})",
                "ask an administrator for the right: `sudo mlflow-admin users grant`",
            )
        if found.status >= 500:
            raise Fault(
                f"the server answers status {found.status}, perhaps for lack of its database: "
                f"{found.excerpt}",
                _LOOK,
            )
        if found.status != 200 or not isinstance(found.document, dict):
            raise Fault(
                f"the server answers status {found.status}: {found.excerpt}",
                f"correct the path in {self.goal.variable}",
            )
        said = self.ask("/version", signed_in=True)
        self.version = said.text.strip() if said.status == 200 and len(said.text) < 40 else ""
        if pair:
            return f"as {pair[0]}"
        return "with a token" if token else "the server asks nobody for a password"


def _shown(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
