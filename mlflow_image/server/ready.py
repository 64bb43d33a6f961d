"""When the MLflow server in a VM is ready: the guest reports it and the host can see it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InsecureRequestWarning

from mlflow_image.errors import Failure
from mlflow_image.vm import boot, console, machine
from mlflow_image.vm.boot import OnWait
from mlflow_image.vm.machine import Machine
from mlflow_settings import signals
from mlflow_settings.blocks.tls import USUAL_PORTS

#: How long the host may take to reach the server after the guest reports that it is ready.
PROBE_GRACE_S = 60.0
#: This call goes through the server's database; `/health` does not.
MLFLOW_PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
#: What MLflow's application with users sends with a 401.
_CHALLENGE = 'Basic realm="mlflow"'
STAGES = (*console.STAGES, ("MLflow", r"mlflow-configure|mlflow-tracking|MLflow [Tt]racking"))


def wait(
    vm: Machine,
    on_wait: OnWait = machine.silent,
    *,
    on_trouble: OnWait = machine.silent,
    timeout_s: float = machine.BOOT_TIMEOUT_S,
) -> str:
    """Wait until the MLflow server answers through its database, as seen from the host.

    Returns the address that the guest reports. on_trouble gets what the guest says of a store that
    it cannot use, with the remedy, each time that it says something else. Raises Failure with the
    guest's own lines, at once when the guest reports that its settings are bad.
    """
    reached = mlflow_ready(vm.forwarded.get)

    said = ""

    def informed(stage: str) -> None:
        nonlocal said
        trouble = signals.store_trouble(vm.current_boot.text)
        if trouble != said and trouble:
            on_trouble(trouble)
        said = trouble
        on_wait(f"{stage}, which waits for a store" if trouble else stage)

    return boot.follow(vm.current_boot, "the MLflow server", reached, informed, timeout_s, STAGES)


def mlflow_ready(port_of: Callable[[int], int | None]) -> Callable[[str], str | None]:
    """A `reached` for `boot.follow`: returns the address at which the guest's server is ready.

    The guest must report it, and then the host must see it through the forwarded port
    (port_of: guest port -> port on 127.0.0.1). The host does not check when the server
    listens on the guest's loopback only or on a port that is not forwarded. Settings that
    keep the server from starting end the wait at once.
    """
    reported_at: list[float] = []

    def reached(text: str) -> str | None:
        url = signals.ready_url(text)
        if url is None:
            if lines := signals.refused_settings(text):
                raise Failure(
                    "the guest refused its settings, so its server does not start",
                    evidence="\n".join(lines),
                )
            return None
        port = port_of(guest_port(url))
        if port is None or is_guest_loopback(url):
            return url
        reported_at.append(time.monotonic())
        problem = probe(f"{urlsplit(url).scheme}://127.0.0.1:{port}{MLFLOW_PROBE}")
        if problem and time.monotonic() - reported_at[0] > PROBE_GRACE_S:
            raise Failure(
                f"the guest reports that it is ready at {url}, but 127.0.0.1:{port} {problem}"
            )
        return None if problem else url

    return reached


def guest_port(url: str) -> int:
    """The port of an address that the guest reports."""
    parts = urlsplit(url)
    return parts.port or USUAL_PORTS[parts.scheme]


def is_guest_loopback(url: str) -> bool:
    """Whether an address can be reached from inside the guest only."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def probe(url: str, timeout_s: float = 10.0) -> str:
    """What is wrong with a server's answer, as the end of a sentence; empty when it is 200.

    A server that asks for a password answers 401; the guest itself signs in before it reports.
    """
    try:
        # trust_env would send a call to 127.0.0.1 through the user's proxy.
        with requests.Session() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureRequestWarning)
            session.trust_env = False
            # Whether it answers: no password is sent, and the certificate is for the clients.
            session.verify = not url.startswith("https://127.0.0.1:")
            answer = session.get(url, timeout=timeout_s)
    except requests.RequestException as error:
        return f"does not answer: {error}"
    asks = answer.headers.get("WWW-Authenticate", "") == _CHALLENGE
    if answer.status_code == 200 or (answer.status_code == 401 and asks):
        return ""
    return f"answers HTTP {answer.status_code}: {answer.text.strip()[:300]}"
