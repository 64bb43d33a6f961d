"""The smoke test: a real MLflow client logs a run to a server and reads everything back.

Returns a Report, whose rows say what was expected, what was found, and how long it took.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_image import progress
from mlflow_image.checks.smoke.contents import Contents
from mlflow_image.checks.smoke.process import PhaseResult, Timeouts, run_phase
from mlflow_image.checks.smoke.protocol import Job
from mlflow_image.checks.smoke.report import Report, Row
from mlflow_image.errors import Failure, Refusal

#: The throwaway VM is addressed by this name, so that allowed_hosts is tested too: a stock
#: server accepts only localhost and private addresses. The server's settings must list it,
#: with the port or `:*`. The domain `.test` is reserved (RFC 6761): nobody can register it.
HOST_NAME = "mlflow.smoke.test"
#: Use as Options.resolve together with HOST_NAME: a VM's ports are forwarded on the loopback.
LOOPBACK = {HOST_NAME: "127.0.0.1"}

WRITTEN, READ, REBOOTED, DELETED = "written", "read back", "after the reboot", "deleted"


@dataclass(frozen=True)
class Options:
    """How a server is tested.

    keep: delete nothing. reboot: reboots the server and returns when it is ready again;
    without it, that part of the test is skipped. resolve: host names and the addresses that
    they resolve to, in the client only. anonymous: send none of the user's credentials.
    """

    keep: bool = False
    reboot: Callable[[], None] | None = None
    resolve: Mapping[str, str] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    anonymous: bool = False


def check_server(
    url: str,
    options: Options | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Report:
    """Write a run with a model and artifacts, read it back, reboot, read it again, delete it.

    url: http(s)://host[:port][/prefix]; credentials and TLS settings come from MLflow's own
    variables. on_step gets one line for each action.

    Raises Refusal when the URL is invalid, and Failure when no MLflow server answers there or
    it rejects the credentials. Every difference is a row of the report. What was written is
    deleted after a failure or Ctrl-C too.
    """
    options = options or Options()
    contents = Contents(secrets.token_hex(6), int(time.time() * 1000))
    test = SmokeTest(checked_url(url), contents, options, on_step)
    started = time.monotonic()
    rows: list[Row] = []
    try:
        test.write_and_read(rows)
    except BaseException:
        if rows and not options.keep:
            test.delete_or_name()
        raise
    left_behind = (test.names,) if options.keep else tuple(test.delete(rows))
    return Report(test.url, tuple(rows), round(time.monotonic() - started, 3), left_behind)


def checked_url(text: str) -> str:
    """The URL without a trailing slash; raises Refusal that says what is wrong with it."""
    remedy = "give it as http://host:port or https://host, as in MLFLOW_TRACKING_URI"
    if any(character.isspace() for character in text) or not text:
        raise Refusal(f"{text!r} is not a URL", remedy=remedy)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refusal(f"{text} is not a URL: {error}", remedy=remedy) from error
    if parts.scheme not in ("http", "https") or "://" not in text:
        scheme = f"its scheme is {parts.scheme}" if "://" in text else "it has no scheme"
        raise Refusal(f"{text} is not the URL of a server: {scheme}", remedy=remedy)
    if not host or port == 0:
        fault = "its port is 0" if host else "it has no host"
        raise Refusal(f"{text} is not the URL of a server: {fault}", remedy=remedy)
    if parts.username or parts.password:
        raise Refusal(
            f"the URL of {host} contains credentials, which would appear in logs",
            remedy="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        )
    if parts.query or parts.fragment:
        raise Refusal(f"{text} has a query or a fragment; give the URL without them")
    return text.rstrip("/")


@dataclass(frozen=True)
class SmokeTest:
    """One smoke test in progress: the server and what is written there."""

    url: str
    contents: Contents
    options: Options
    on_step: Callable[[str], None]

    @property
    def names(self) -> str:
        return f"experiment {self.contents.experiment}, registered model {self.contents.model}"

    def write_and_read(self, rows: list[Row]) -> None:
        """Run all phases except deleting, up to the first difference; add to `rows` at once."""
        if not self.phase(WRITTEN, "write", rows).ok or not self.phase(READ, "read", rows).ok:
            return
        if self.options.reboot:
            self.on_step("rebooting")
            started = time.monotonic()
            self.options.reboot()
            seconds = round(time.monotonic() - started, 3)
            rows.append(Row(REBOOTED, "the server", "ready again", "ready again", True, seconds))
            self.phase(REBOOTED, "read", rows)

    def phase(self, name: str, task: str, rows: list[Row]) -> PhaseResult:
        """Run one phase in its own process and append its rows, also when it raises."""
        options, result = self.options, PhaseResult()
        job = Job(
            phase=name,
            task=task,
            url=self.url,
            token=self.contents.token,
            started_ms=self.contents.started_ms,
            resolve=dict(options.resolve),
            anonymous=options.anonymous,
        )
        try:
            with tempfile.TemporaryDirectory(prefix="mlflow-smoke-") as folder:
                run_phase(job, Path(folder), options.timeouts, self.on_step, result)
        finally:
            rows += result.rows
        return result

    def delete(self, rows: list[Row]) -> list[str]:
        """Delete what was written; returns the names of what stays."""
        result = self.phase(DELETED, "delete", rows)
        return result.left_behind if result.ok else [*result.left_behind, self.names]

    def delete_or_name(self) -> None:
        """As `delete`, while an error is being raised that no other may replace."""
        progress.warn("deleting what the smoke test wrote; press Ctrl-C again to leave it there")
        try:
            left_behind = self.delete([])
        except (Failure, KeyboardInterrupt):
            left_behind = [self.names]
        for name in left_behind:
            progress.warn(f"left on {self.url}: {name}")
