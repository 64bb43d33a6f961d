"""What users, nginx and TLS cost: calls, and a large file; natively."""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import requests

from mlflow_image import files
from mlflow_image.checks.bench import rate
from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.checks.bench.uploads import ARTIFACTS
from mlflow_image.paths import HERE
from mlflow_image.progress import Step
from mlflow_image.server import local, local_proxy
from mlflow_settings import settings
from mlflow_settings.settings import Settings

ROUNDS = 5
FILE_ROUNDS = 5
WORKERS = 2
FILE_MB = 2000
ADMIN = "admin"
USER = "ana"
IMAGE_SYSCTL = HERE.image_files / "usr" / "lib" / "sysctl.d" / "60-mlflow-image.conf"
HOST_BUFFERS = Path("/proc/sys/net/core/wmem_default")
_STOCK = "stock, basic-auth"


@dataclass(frozen=True)
class Door:
    """A server to measure. variables: what its clients set."""

    url: str
    variables: Mapping[str, str]


def measure(step: Step) -> list[Figure]:
    """Measure the image's server with each door in turn, and a stock server with users."""
    password = secrets.token_urlsafe(16)
    block = (
        f"{{admin: {{password: {password}}}, default_permission: EDIT, "
        f"users: [{{name: {USER}, password: {password}}}]}}"
    )
    users = settings.check(f"schema_version: 1\nauth: {{basic: {block}}}\n", "x")
    # An administrator's permissions are not looked up.
    kinds = {
        "open": (Settings(), False, ""),
        "administrator": (users, False, ADMIN),
        "user": (users, False, USER),
        "nginx and TLS": (Settings(), True, ""),
        "both": (users, True, USER),
    }
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        for name, (chosen, behind, who) in kinds.items():
            step.update(f"round {number + 1} of {ROUNDS}, {name}")
            with _door(chosen, behind, who, password) as door, _set(door.variables):
                rates[name].append(rate.calls_a_second(door.url))
        step.update(f"round {number + 1} of {ROUNDS}, {_STOCK}")
        with _stock(password) as door, _set(door.variables):
            rates[_STOCK].append(rate.calls_a_second(door.url))
    call = "log_batch of 10 metrics"
    against = (
        *(("administrator", "open", 0.85), ("user", "open", 0.85)),
        *(("nginx and TLS", "open", 0.75), ("both", _STOCK, 4.0)),
    )
    return [
        *(
            Figure(f"{call}, {name}", statistics.median(one), "calls/s")
            for name, one in rates.items()
        ),
        *(
            ratio(f"{call}, {name} / {other}", rates[name], rates[other], at_least=goal, digits=2)
            for name, other, goal in against
        ),
        *_large_file(step),
    ]


def _large_file(step: Step) -> list[Figure]:
    """One upload without nginx, through it, and through it with TLS, in turn; nginx's memory.

    With TLS, client and nginx share this host's processors for their encryption: no goal. Root
    measures with the image's buffers for sockets, and restores the host's own.
    """
    took: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        scratch, plain, behind = (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)
        )
        buffers = stack.enter_context(_buffers_of_the_image())
        without = stack.enter_context(local.ours(plain, WORKERS))
        server = stack.enter_context(local_proxy.running(behind, WORKERS, Settings()))
        file = scratch / "file"
        with file.open("wb") as output:
            for _ in range(FILE_MB):
                output.write(os.urandom(1_000_000))
        before_mb = _memory_mb(server.nginx.pid)
        for number in range(FILE_ROUNDS):
            step.update(f"round {number + 1} of {FILE_ROUNDS}, {FILE_MB} MB")
            took["without"].append(_upload(without, file, True))
            took["nginx"].append(_upload(server.inner, file, True))
            took["TLS"].append(_upload(server.url, file, str(server.ca)))
        grown_mb = _memory_mb(server.nginx.pid) - before_mb
    name = f"upload of {FILE_MB} MB"
    return [
        replace(
            ratio(f"{name} through nginx / without", took["without"], took["nginx"], at_least=0.8),
            note=buffers,
        ),
        ratio(f"{name} through nginx and TLS / without", took["without"], took["TLS"]),
        Figure(f"{name}: memory that nginx has grown by", grown_mb, "MB", at_most=50),
    ]


@contextmanager
def _buffers_of_the_image() -> Iterator[str]:
    """The image's net.core.wmem_default on this host, for root; yields a note where it differs."""
    ours = int(IMAGE_SYSCTL.read_text().rpartition("=")[2])
    hosts = int(HOST_BUFFERS.read_text())
    if hosts >= ours:
        yield ""
        return
    try:
        HOST_BUFFERS.write_text(str(ours))
    except OSError:
        yield f"with this host's net.core.wmem_default, {hosts}; the image has {ours}"
        return
    try:
        yield ""
    finally:
        HOST_BUFFERS.write_text(str(hosts))


def _upload(url: str, file: Path, verify: bool | str) -> float:
    place = f"{url}{ARTIFACTS}/mlflow-image-bench"
    began_s = time.monotonic()
    with requests.Session() as session, file.open("rb") as body:
        session.trust_env, session.verify = False, verify
        session.put(place, data=body, timeout=600).raise_for_status()
        took_s = time.monotonic() - began_s
        session.delete(place, timeout=600).raise_for_status()
    return took_s


def _memory_mb(pid: int) -> float:
    master = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (master, *master.children())) / 1e6


@contextmanager
def _door(chosen: Settings, behind: bool, who: str, password: str) -> Iterator[Door]:
    variables = _signed_in(who, password) if who else {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not behind:
            yield Door(stack.enter_context(local.ours(folder, WORKERS, stores=chosen)), variables)
            return
        server = stack.enter_context(local_proxy.running(folder, WORKERS, chosen))
        trusted = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(server.ca)}
        yield Door(server.url, {**variables, **trusted})


@contextmanager
def _stock(password: str) -> Iterator[Door]:
    """`mlflow server --app-name basic-auth` as MLflow's documentation has it."""
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "basic_auth.ini"
        files.write_private(
            config,
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{scratch}/accounts.db\n"
            f"admin_username = {ADMIN}\nadmin_password = {password}\n",
        )
        given = {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(16),
        }
        words = ("--app-name", "basic-auth")
        with local.stock(Path(scratch), WORKERS, variables=given, words=words) as url:
            yield Door(url, _signed_in(ADMIN, password))


def _signed_in(who: str, password: str) -> dict[str, str]:
    """The variables of a client."""
    return {"MLFLOW_TRACKING_USERNAME": who, "MLFLOW_TRACKING_PASSWORD": password}


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment of MLflow's client, which reads it at each call."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
