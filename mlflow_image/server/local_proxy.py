"""The image's server behind nginx and TLS, natively, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from mlflow_image.errors import Refusal
from mlflow_image.server import local
from mlflow_settings import identity
from mlflow_settings.blocks.block import Machine
from mlflow_settings.blocks.tls import SelfSigned, Tls
from mlflow_settings.settings import Settings

START_S = 20.0
_PATH = "/usr/sbin:/sbin:/usr/bin:/usr/local/sbin"


@dataclass(frozen=True)
class Proxied:
    """A server behind nginx. url: https://localhost:PORT. inner: its address without TLS."""

    url: str
    inner: str
    ca: Path
    folder: Path
    nginx: subprocess.Popen[bytes]


def program() -> str:
    """Where nginx is on this host; "" when it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:{_PATH}") or ""


@contextlib.contextmanager
def running(
    folder: Path, workers: int, chosen: Settings, ca: Path | None = None, port: int = 0
) -> Iterator[Proxied]:
    """Run both on a port, by default a free one; raises Refusal without nginx.

    chosen: its certificate is replaced by one of the machine's own kind, if it is not in `files`.
    ca: has signed that one.
    """
    if not program():
        raise Refusal("nginx is not installed", remedy="install it: apt-get install nginx")
    port = port or local.free_port()
    names = chosen.tls.names or ("mlflow.example.com",)
    own_kind = Tls(port=port, self_signed=SelfSigned(tuple(names)))
    tls = replace(chosen.tls, port=port) if chosen.tls.files else own_kind
    ca = ca or folder / "ca.pem"
    own = identity.ensure(folder, tls, Machine(("127.0.0.1",)))
    with (
        local.ours(folder, workers, stores=replace(chosen, tls=tls), identity=own) as inner,
        _nginx(folder, port, ca) as process,
    ):
        yield Proxied(f"https://localhost:{port}", inner, ca, folder, process)


def _nginx(folder: Path, port: int, ca: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    user = "user root; " if os.geteuid() == 0 else ""  # else its workers could not reach the folder
    words = [program(), "-c", str(folder / "nginx.conf"), "-g", f"daemon off; {user}"]
    answered = functools.partial(_answers, port, ca)
    return local.program(words, folder / "nginx.log", answered, start_s=START_S, stop_s=10)


def _answers(port: int, ca: Path) -> bool:
    with contextlib.suppress(requests.RequestException), requests.Session() as session:
        # Else REQUESTS_CA_BUNDLE would win over the session's own CA.
        session.trust_env = False
        session.verify = str(ca)
        return session.get(f"https://localhost:{port}/health", timeout=5).ok
    return False
