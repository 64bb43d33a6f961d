"""The smoke test: a real MLflow client logs a run into a server and reads everything back.

Hands on a Report, whose rows say what was expected, what was found, and how long it took.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_image import progress
from mlflow_image.checks.smoke.contents import Contents
from mlflow_image.checks.smoke.process import Patience, Phase, run_phase
from mlflow_image.checks.smoke.report import Report, Row
from mlflow_image.errors import Failure, Refusal

#: The throwaway VM is spoken to by this name, so that its allowed hosts are tested too:
#: a stock server lets only localhost and private addresses pass. Its settings must list
#: HOST_NAME, with the port or `:*`. `.test` is reserved (RFC 6761): nobody owns it.
HOST_NAME = "mlflow.smoke.test"
#: To be given as `resolve` together with HOST_NAME: forwarded ports are on the loopback.
LOOPBACK = {HOST_NAME: "127.0.0.1"}

WRITTEN, READ, REBOOTED, DELETED = "written", "read back", "after the reboot", "deleted"


def check_server(
    url: str,
    *,
    keep: bool = False,
    reboot: Callable[[], None] | None = None,
    resolve: Mapping[str, str] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
    patience: Patience | None = None,
    anonymous: bool = False,
) -> Report:
    """Write a run with all that belongs to it, read it back, reboot, read it again, delete it.

    url: http(s)://host[:port][/prefix]; credentials and TLS come from MLflow's own
    variables. keep: delete nothing. reboot: returns when the server is ready again; left
    out, that part is. resolve: names and the addresses that they get, in the client's
    process only. on_step is called with one line for every thing that is done. anonymous:
    send none of the user's credentials.

    Raises Refusal for a text that is no such URL, and Failure when no MLflow server
    answers there or it does not let us in; whatever differs is a row of the report. What
    was written is deleted after a failure or Ctrl-C too.
    """
    test = SmokeTest(
        url=checked_url(url),
        contents=Contents(secrets.token_hex(6), int(time.time() * 1000)),
        resolve=dict(resolve or {}),
        patience=patience or Patience(),
        anonymous=anonymous,
        on_step=on_step,
    )
    started = time.monotonic()
    rows: list[Row] = []
    try:
        test.write_and_read(rows, reboot)
    except BaseException:
        if rows and not keep:
            test.delete_or_name()
        raise
    left = (test.names,) if keep else tuple(test.delete(rows))
    return Report(test.url, tuple(rows), round(time.monotonic() - started, 3), left)


def checked_url(text: str) -> str:
    """The URL without a slash at its end; raises Refusal saying what is wrong with it."""
    remedy = "give it as http://host:port or https://host, as in MLFLOW_TRACKING_URI"
    if any(character.isspace() for character in text) or not text:
        raise Refusal(f"{text!r} is no URL", remedy=remedy)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refusal(f"{text} is no URL: {error}", remedy=remedy) from error
    if parts.scheme not in ("http", "https") or "://" not in text:
        named = f"its scheme is {parts.scheme}" if "://" in text else "it has no scheme"
        raise Refusal(f"{text} is no URL of a server: {named}", remedy=remedy)
    if not host or port == 0:
        raise Refusal(f"{text} is no URL of a server: it has no host or port 0", remedy=remedy)
    if parts.username or parts.password:
        raise Refusal(
            f"the URL of {host} carries credentials, which would end in logs",
            remedy="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        )
    if parts.query or parts.fragment:
        raise Refusal(f"{text} has a query or fragment, which a server's URL has not")
    return text.rstrip("/")


@dataclass(frozen=True)
class SmokeTest:
    """One smoke test under way: the server, what it writes there, how long it waits."""

    url: str
    contents: Contents
    resolve: dict[str, str]
    patience: Patience
    on_step: Callable[[str], None]
    anonymous: bool = False

    @property
    def names(self) -> str:
        return f"experiment {self.contents.experiment}, registered model {self.contents.model}"

    def write_and_read(self, rows: list[Row], reboot: Callable[[], None] | None) -> None:
        """All phases but the last, until one differs; rows are filled as they come."""
        if not self.phase(WRITTEN, "write", rows).ok or not self.phase(READ, "read", rows).ok:
            return
        if reboot:
            self.on_step("rebooting")
            started = time.monotonic()
            reboot()
            seconds = round(time.monotonic() - started, 3)
            rows.append(Row(REBOOTED, "the server", "ready again", "ready again", True, seconds))
            self.phase(REBOOTED, "read", rows)

    def phase(self, name: str, task: str, rows: list[Row]) -> Phase:
        """Run one phase in a process of its own and put its rows behind the others."""
        order = {
            "phase": name,
            "task": task,
            "url": self.url,
            "resolve": self.resolve,
            "anonymous": self.anonymous,
            "token": self.contents.token,
            "started_ms": self.contents.started_ms,
        }
        done = Phase()
        try:
            with tempfile.TemporaryDirectory(prefix="mlflow-smoke-") as folder:
                run_phase(order, Path(folder), self.patience, self.on_step, done)
        finally:
            rows += done.rows
        return done

    def delete(self, rows: list[Row]) -> list[str]:
        """Take away what was written; what stays is returned by name."""
        done = self.phase(DELETED, "delete", rows)
        return done.left if done.ok else [*done.left, self.names]

    def delete_or_name(self) -> None:
        """As `delete`, on the way out with an error that must not be covered by another."""
        progress.warn("deleting what the smoke test wrote; a second Ctrl-C leaves it there")
        try:
            left = self.delete([])
        except (Failure, KeyboardInterrupt):
            left = [self.names]
        for name in left:
            progress.warn(f"left behind on {self.url}: {name}")
