"""MLflow's pages in a real browser, natively: through nginx, TLS and a password, by every name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
import requests

from mlflow_image.paths import HERE
from mlflow_image.server import local_proxy
from mlflow_image.server.local_proxy import Proxied
from mlflow_settings import settings
from tests.peers import page

pytestmark = pytest.mark.skipif(
    bool(page.missing()) or not local_proxy.program(),
    reason=f"missing: {page.missing() or 'nginx'}",
)

ADMIN = ("admin", "canary-of-the-administrator")
NAME = "mlflow.example.com"
TEXT = f"""\
schema_version: 1
tls: {{self_signed: {{names: [{NAME}]}}}}
auth: {{basic: {{admin: {{password: {ADMIN[1]}}}}}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("page")
    with local_proxy.running(folder, 2, settings.check(TEXT, "x")) as found:
        yield found


@pytest.fixture(scope="module")
def experiment(server: Proxied) -> str:
    with requests.Session() as session:
        session.trust_env, session.verify, session.auth = False, str(server.ca), ADMIN
        return page.fill(session, server.url)


@contextmanager
def forwarded(port: int) -> Iterator[int]:
    """A port that leads to the given one, as `ssh -L` or a VM's port forwarding does."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.budget(120)
@pytest.mark.verifies("Chromium signs in, sees runs, charts, files, a model, logs out: 3 addresses")
@pytest.mark.parametrize("way", ["a DNS name", "an IP address", "a forwarded port"])
def test_a_browser_signs_in_looks_at_runs_and_models_and_logs_out(
    way: str, server: Proxied, experiment: str
) -> None:
    port = urlsplit(server.url).port or 0
    with forwarded(port) as other:
        address = {
            "a DNS name": f"https://{NAME}",
            "an IP address": f"https://127.0.0.1:{port}",
            "a forwarded port": f"https://localhost:{other}",
        }[way]
        screenshots = HERE.state / "screenshots" / way.replace(" ", "-")
        screenshots.mkdir(parents=True, exist_ok=True)
        reached = f"127.0.0.1:{other if way == 'a forwarded port' else port}"
        found = page.look(
            page.Errand(address, reached, str(server.ca), *ADMIN, experiment, str(screenshots))
        )
    assert found["refused"] == []
    assert found["after_logout"] == 401
    assert len(list(screenshots.glob("*.png"))) == len(found["steps"]) == 7
