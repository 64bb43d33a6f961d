"""Two servers behind HAProxy against one: calls per second, each held to the same share of a core.

Servers, clients and database are on one machine, so each server (launcher, workers and nginx) gets
a part of a processor that leaves enough for the rest.
"""

from __future__ import annotations

import http.client
import json
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow_image.checks.bench import quota
from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.errors import Failure, Refusal
from mlflow_image.progress import Step
from mlflow_image.server import local, local_balancer, local_proxy
from mlflow_image.server.local_balancer import Balancer
from mlflow_settings import identity
from mlflow_settings.blocks.auth import Auth
from mlflow_settings.blocks.block import Machine
from mlflow_settings.blocks.tls import Files, SelfSigned, Tls
from mlflow_settings.proxy import Identity
from mlflow_settings.settings import Settings

ROUNDS = 3
CLIENTS = 8
METRICS = 10
WARM_UP_S = 4.0
MEASURED_S = 20.0
#: Of one processor, for each server. Two servers, the database, HAProxy and the clients have to fit
#: on two processors: otherwise the share of one server would change with the second one.
PERCENT = 25
NAMES = ("a", "b")


def measure(chosen: Settings, step: Step) -> list[Figure]:
    """Measure one server and both in turn, behind the same HAProxy, on the settings' database.

    Raises Refusal for settings without PostgreSQL and S3: two servers would have nothing in common.
    """
    if not (chosen.backend_store.postgresql and chosen.artifact_store.remote):
        raise Refusal(
            "these settings have not both PostgreSQL and a store for artifacts that servers share",
            remedy="with SQLite or local artifacts there can be one server only",
        )
    one: list[float] = []
    both: list[float] = []
    with serving(chosen) as found:
        balancer = found.balancer
        for number in range(ROUNDS):
            step.update(f"round {number + 1} of {ROUNDS}, one server")
            balancer("drain", "b")
            one.append(calls_a_second(balancer))
            step.update(f"round {number + 1} of {ROUNDS}, two servers")
            balancer("ready", "b")
            both.append(calls_a_second(balancer))
    held = f"each held to {PERCENT} % of a core"
    call = f"log_batch of {METRICS} metrics over PostgreSQL, {CLIENTS} clients"
    return [
        Figure(f"{call}, one server behind HAProxy, {held}", statistics.median(one), "calls/s"),
        Figure(f"{call}, two servers behind HAProxy, {held}", statistics.median(both), "calls/s"),
        ratio(f"{call}, two servers / one, {held}", both, one, at_least=1.6, digits=2),
    ]


@dataclass(frozen=True)
class Serving:
    """Two servers behind HAProxy. leaders: launcher and nginx of each server."""

    balancer: Balancer
    leaders: Mapping[str, Sequence[int]]


@contextmanager
def serving(chosen: Settings, percent: int = PERCENT) -> Iterator[Serving]:
    """Two servers with nginx and TLS behind HAProxy; the users of the settings are left out.

    percent: of a processor, to which each server is held.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = (local_balancer.SERVER_NAME,)
        shown = identity.ensure(folder, Tls(self_signed=SelfSigned(names)), Machine())
        if shown is None:
            raise Failure("no certificate was made")
        servers = replace(chosen, auth=Auth(), tls=Tls(files=Files(shown.chain, shown.key)))
        ports, leaders = {}, {}
        for name in NAMES:
            ports[name], leaders[name] = _server(stack, folder / name, servers, shown)
            stack.enter_context(quota.held(leaders[name], percent))
        place = folder / "haproxy"
        place.mkdir()
        balancer = stack.enter_context(local_balancer.running(place, ports, shown, ""))
        for name in NAMES:
            balancer("ready", name)
        yield Serving(balancer, leaders)


def _server(
    stack: ExitStack, folder: Path, chosen: Settings, shown: Identity
) -> tuple[int, Sequence[int]]:
    """Start a server; returns its port, and its launcher and nginx."""
    folder.mkdir()
    ca = folder / "authority.pem"
    ca.write_text(shown.ca)
    before = {one.pid for one in local.launchers()}
    found = stack.enter_context(local_proxy.running(folder, 1, chosen, ca))
    launcher = next(one.pid for one in local.launchers() if one.pid not in before)
    return int(urlsplit(found.url).port or 0), (launcher, found.nginx.pid)


def calls_a_second(balancer: Balancer, clients: int = CLIENTS) -> float:
    """The rate of `log_batch` calls that succeed, all clients together.

    The clients are bare HTTP connections: MLflow's own would need more of the processors than the
    servers get.
    """
    context = ssl.create_default_context(cafile=str(balancer.ca))
    begin_s = time.monotonic() + WARM_UP_S
    counts = [0] * clients
    wrong: list[str] = []

    def log(position: int) -> None:
        try:
            counts[position] = _log(balancer.url, context, begin_s, begin_s + MEASURED_S)
        except (OSError, http.client.HTTPException, Failure) as error:
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=log, args=(position,)) for position in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise Failure("a call of the measurement failed", evidence="\n".join(wrong))
    return sum(counts) / MEASURED_S


def _log(url: str, context: ssl.SSLContext, begin_s: float, end_s: float) -> int:
    """One client: its calls that began and ended between two moments."""
    connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=60, context=context)
    try:
        run = _call(connection, "runs/create", experiment_id="0")["run"]["info"]["run_id"]
        count = step = 0
        while (now_s := time.monotonic()) < end_s:
            step += 1
            metrics = [
                {"key": f"m{number}", "value": step, "timestamp": 1_700_000_000_000, "step": step}
                for number in range(METRICS)
            ]
            _call(connection, "runs/log-batch", run_id=run, metrics=metrics)
            count += now_s >= begin_s and time.monotonic() < end_s
        _call(connection, "runs/delete", run_id=run)
        return count
    finally:
        connection.close()


def _call(connection: http.client.HTTPSConnection, path: str, **body: object) -> Any:
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/api/2.0/mlflow/{path}", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise Failure(
            f"{path}: status {answer.status}", evidence=text[:500].decode("utf-8", "replace")
        )
    return json.loads(text)
