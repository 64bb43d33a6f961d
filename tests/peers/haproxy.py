"""HAProxy with examples/pair/haproxy.cfg, its values in capitals filled in; in Debian: haproxy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.paths import HERE
from mlflow_image.server.local import free_port
from tests.peers import process
from tests.peers.authority import Authority

EXAMPLE = HERE.root / "examples" / "pair"
CONFIGURATION = EXAMPLE / "haproxy.cfg"
#: The name in the servers' certificates; HAProxy asks for it, and for no other one.
SERVER_NAME = "mlflow.example.com"
_PATH = "/usr/sbin:/sbin:/usr/bin:/usr/local/sbin"


@dataclass(frozen=True)
class Balancer:
    """HAProxy on https://localhost:PORT. ca: of the certificate that clients see."""

    url: str
    ca: Path
    socket: Path
    log: Path

    def __call__(self, *words: str, timeout_s: float = 900) -> str:
        """Run the example's program `balancer`."""
        done = self.tried(*words, timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tried(
        self, *words: str, timeout_s: float = 900, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the example's program `balancer`, whatever it returns."""
        given = {**os.environ, "MLFLOW_BALANCER_SOCKET": str(self.socket), **(variables or {})}
        words = (str(EXAMPLE / "balancer"), *words)
        return subprocess.run(
            words, env=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )


def program() -> str:
    """Where HAProxy is on this host; "" when it is not installed."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:{_PATH}") or ""


def missing() -> str:
    """The programs that are not installed, for a skip's reason."""
    return ", ".join(name for name in ("haproxy", "socat") if not shutil.which(name, path=_PATH))


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """What HAProxy says of a configuration."""
    words = [program(), "-c", "-f", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def configuration(
    folder: Path, authority: Authority, ports: Mapping[str, int], password: str, port: int
) -> Path:
    """Write the example with its values, for servers on these ports of the loopback.

    ports: by the name of each server. authority: has signed what the servers and HAProxy show.
    """
    text = CONFIGURATION.read_text()
    for name, at in ports.items():
        text, count = re.subn(rf"SERVER_{name.upper()}_ADDRESS:443", f"127.0.0.1:{at}", text)
        assert count == 1, name
    shown = authority.issue("localhost")
    clients = folder / "clients.pem"
    clients.write_text(shown.certificate.read_text() + shown.key.read_text())
    clients.chmod(0o600)
    shutil.copy(authority.certificate, folder / "servers-ca.pem")
    replaced = {
        "SERVER_NAME": SERVER_NAME,
        "BALANCER_PASSWORD": password,
        "/etc/haproxy/": f"{folder}/",
        "/run/haproxy/": f"{folder}/",
        "bind :443": f"bind 127.0.0.1:{port}",
        "bind :80\n": f"bind 127.0.0.1:{free_port()}\n",
        "log /dev/log local0": "log stdout format raw local0",
    }
    if os.geteuid() != 0:
        replaced |= {"    user haproxy\n": "", "    group haproxy\n": ""}
    for before, after in replaced.items():
        assert before in text, before
        text = text.replace(before, after)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    file.chmod(0o600)
    return file


@contextmanager
def running(
    folder: Path, authority: Authority, ports: Mapping[str, int], password: str
) -> Iterator[Balancer]:
    """Run it. authority: has signed what the servers and HAProxy show."""
    port = free_port()
    file = configuration(folder, authority, ports, password, port)
    log = folder / "haproxy.log"
    with process.running([program(), "-db", "-f", file], port, log):
        yield Balancer(
            f"https://localhost:{port}", authority.certificate, folder / "admin.sock", log
        )
