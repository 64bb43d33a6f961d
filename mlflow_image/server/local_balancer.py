"""HAProxy with examples/pair/haproxy.cfg before servers on this host, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import command, files
from mlflow_image.command import Completed
from mlflow_image.errors import Failure, Refusal
from mlflow_image.paths import HERE
from mlflow_image.server import local
from mlflow_settings.proxy import Identity

EXAMPLE = HERE.root / "examples" / "pair"
CONFIGURATION = EXAMPLE / "haproxy.cfg"
#: The name in the servers' certificates; HAProxy asks for it, and for no other one.
SERVER_NAME = "mlflow.example.com"
#: How the example asks whether a server can serve, and the same for a server without users.
CHECK = "/api/2.0/mlflow/users/get?username=balancer"
OPEN_CHECK = "/api/2.0/mlflow/experiments/get?experiment_id=0"
START_S = 20.0
_PATH = "/usr/sbin:/sbin:/usr/bin:/usr/local/sbin"


@dataclass(frozen=True)
class Balancer:
    """HAProxy on https://localhost:PORT, with this pid. ca: of what clients see."""

    url: str
    ca: Path
    socket: Path
    pid: int

    def __call__(self, *words: str, timeout_s: float = 900) -> str:
        """Run the example's program `balancer`; returns what it prints. Raises Failure."""
        return self._run(words, timeout_s=timeout_s).stdout

    def tried(self, *words: str, variables: Mapping[str, str] | None = None) -> Completed:
        """Run the example's program `balancer`, whatever it returns."""
        return self._run(words, check=False, variables=variables)

    def _run(
        self,
        words: Sequence[str],
        *,
        check: bool = True,
        timeout_s: float = 900,
        variables: Mapping[str, str] | None = None,
    ) -> Completed:
        given = {"MLFLOW_BALANCER_SOCKET": str(self.socket), **(variables or {})}
        argv: list[str | Path] = [EXAMPLE / "balancer", *words]
        return command.run(argv, env=given, check=check, timeout_s=timeout_s)


def program() -> str:
    """Where HAProxy is on this host; "" when it is not installed."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:{_PATH}") or ""


def missing() -> str:
    """The programs that are not installed."""
    return ", ".join(name for name in ("haproxy", "socat") if not shutil.which(name, path=_PATH))


def configuration(
    folder: Path, servers: Mapping[str, int], identity: Identity, password: str, port: int
) -> Path:
    """Write the example with its values for a folder; returns the file.

    servers: the port on the loopback of each server, by its name in the example. identity: what
    clients see; its CA has signed the servers' certificates, too. password: of the balancer's
    account; "": the servers have no users.
    """
    text = CONFIGURATION.read_text()
    for name, at in servers.items():
        text = re.sub(rf"SERVER_{name.upper()}_ADDRESS:443", f"127.0.0.1:{at}", text)
    files.write_private(folder / "clients.pem", identity.chain + identity.key)
    (folder / "servers-ca.pem").write_text(identity.ca)
    replaced = {
        "SERVER_NAME": SERVER_NAME,
        "BALANCER_PASSWORD": password,
        CHECK: CHECK if password else OPEN_CHECK,
        "/etc/haproxy/": f"{folder}/",
        "/run/haproxy/": f"{folder}/",
        "bind :443": f"bind 127.0.0.1:{port}",
        "bind :80\n": f"bind 127.0.0.1:{local.free_port()}\n",
        "log /dev/log local0": "log stdout format raw local0",
    }
    if os.geteuid() != 0:
        replaced |= {"    user haproxy\n": "", "    group haproxy\n": ""}
    for before, after in replaced.items():
        if before not in text:
            raise Failure(f"{CONFIGURATION} has no {before!r} any more")
        text = text.replace(before, after)
    file = folder / "haproxy.cfg"
    files.write_private(file, text)
    return file


@contextlib.contextmanager
def running(
    folder: Path, servers: Mapping[str, int], identity: Identity, password: str
) -> Iterator[Balancer]:
    """Run it; raises Refusal when it is not installed. The arguments are configuration's."""
    if lacking := missing():
        raise Refusal(
            f"not installed: {lacking}", remedy="install it: apt-get install haproxy socat"
        )
    port = local.free_port()
    file = configuration(folder, servers, identity, password, port)
    ca = folder / "servers-ca.pem"
    words = [program(), "-db", "-f", str(file)]
    answered = functools.partial(_listens, port)
    with local.program(
        words, folder / "haproxy.log", answered, start_s=START_S, stop_s=10
    ) as process:
        yield Balancer(f"https://localhost:{port}", ca, folder / "admin.sock", process.pid)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
