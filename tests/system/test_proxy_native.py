"""nginx before the image's server, natively: what passes, what is refused, and bad days."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from mlflow_image.server import local_proxy
from mlflow_image.server.local_proxy import Proxied
from mlflow_settings import settings

pytestmark = pytest.mark.skipif(not local_proxy.program(), reason="missing: nginx")

ADMIN = ("admin", "canary-of-the-administrator")
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
SEARCH = "/api/2.0/mlflow/experiments/search"
TEXT = f"""\
schema_version: 1
tls: {{self_signed: {{names: [mlflow.example.com]}}}}
auth: {{basic: {{admin: {{password: {ADMIN[1]}}}}}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxy")
    with local_proxy.running(folder, 2, settings.check(TEXT, "x")) as found:
        yield found


@pytest.fixture
def client(server: Proxied) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # else REQUESTS_CA_BUNDLE would win
        session.verify = str(server.ca)
        session.auth = ADMIN
        yield session


def port_of(server: Proxied) -> int:
    return int(urlsplit(server.url).port or 0)


@pytest.mark.budget(120)
def test_clients_sign_in_through_tls(server: Proxied, client: requests.Session) -> None:
    assert client.get(server.url + EXPERIMENT).status_code == 200
    client.auth = None
    assert client.get(server.url + EXPERIMENT).status_code == 401
    assert client.get(server.inner + EXPERIMENT).status_code == 401


def test_the_certificate_is_for_every_name_of_the_machine(server: Proxied) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    for name in ("localhost", "127.0.0.1", "mlflow.example.com", socket.gethostname().lower()):
        with (
            socket.create_connection(("127.0.0.1", port_of(server))) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            assert secured.version() == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(server: Proxied, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port_of(server))) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain)


def test_plain_http_on_the_port_of_https_is_sent_there(server: Proxied) -> None:
    plain = server.url.replace("https://", "http://")
    answer = requests.get(f"{plain}/x?y=1", allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (308, f"{server.url}/x?y=1")


def test_a_page_may_ask_its_own_server_by_any_name_and_no_other_page_may(
    server: Proxied, client: requests.Session
) -> None:
    def status(**headers: str) -> int:
        body = {"max_results": 1}
        return client.post(server.url + SEARCH, json=body, headers=headers).status_code

    port = port_of(server)
    assert status(Origin=server.url) == 200
    assert status(Origin=f"https://127.0.0.1:{port}", Host=f"127.0.0.1:{port}") == 200
    assert status(Origin="https://mlflow.example.com", Host="mlflow.example.com") == 200
    assert status(Origin="https://evil.example") == 403
    assert status(Origin="http://evil.example", Host="evil.example") == 403
    assert status(Origin="https://localhost.evil.example") == 403


def test_browsers_remember_https_but_not_for_localhost(
    server: Proxied, client: requests.Session
) -> None:
    named = client.get(f"{server.url}/health", headers={"Host": "mlflow.example.com"})
    assert named.headers["Strict-Transport-Security"].startswith("max-age=")
    assert "Strict-Transport-Security" not in client.get(f"{server.url}/health").headers
    assert "nginx/" not in named.headers["Server"]


def test_scripts_come_from_nginx_compressed_and_stay_in_the_browser(
    server: Proxied, client: requests.Session
) -> None:
    page = client.get(f"{server.url}/").text
    script = next(word for word in page.split('"') if word.endswith(".js"))
    answer = client.get(f"{server.url}/{script}", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "max-age=31536000" in answer.headers["Cache-Control"]


def test_the_address_in_the_journal_is_the_clients_and_cannot_be_made_up(
    server: Proxied, client: requests.Session
) -> None:
    client.auth = ("admin", "canary-of-nobody")
    headers = {"X-Forwarded-For": "192.0.2.66", "Forwarded": "for=192.0.2.66"}
    assert client.get(server.url + EXPERIMENT, headers=headers).status_code == 401
    log = server.folder / "server.log"
    deadline_s = time.monotonic() + 10
    while "sign-in: a wrong password from 127.0.0.1" not in log.read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert "192.0.2.66" not in log.read_text()


@pytest.mark.budget(60)
def test_a_large_artifact_goes_through_without_a_disk(
    server: Proxied, client: requests.Session
) -> None:
    size, seen = 200 << 20, [0]
    block = os.urandom(1 << 20)
    watched = threading.Event()

    def watch() -> None:
        folders = [server.folder / name for name in ("body", "proxy")]
        while not watched.wait(0.02):
            sizes = (one.stat().st_size for at in folders for one in at.rglob("*") if one.is_file())
            seen[0] = max(seen[0], sum(sizes))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    place = f"{server.url}{ARTIFACTS}/large.bin"
    client.put(place, data=(block for _ in range(size >> 20))).raise_for_status()
    with client.get(place, stream=True) as answer:
        received = hashlib.sha256()
        for chunk in answer.iter_content(1 << 20):
            received.update(chunk)
    watched.set()
    watcher.join()
    expected = hashlib.sha256()
    for _ in range(size >> 20):
        expected.update(block)
    assert received.hexdigest() == expected.hexdigest()
    assert seen[0] == 0, "nginx has written a body to a disk"


def test_an_upload_that_is_cut_off_leaves_nothing(
    server: Proxied, client: requests.Session
) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    pair = requests.auth._basic_auth_str(*ADMIN)
    with (
        socket.create_connection(("localhost", port_of(server))) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        head = (
            f"PUT {ARTIFACTS}/cut.bin HTTP/1.1\r\nHost: localhost:{port_of(server)}\r\n"
            f"Authorization: {pair}\r\nContent-Length: 100000000\r\n\r\n"
        )
        secured.sendall(head.encode() + b"x" * 5_000_000)
        time.sleep(0.5)
    time.sleep(1)
    assert client.get(f"{server.url}{ARTIFACTS}/cut.bin").status_code in (404, 500)
    listed = client.get(f"{server.url}{ARTIFACTS}?path=").json()
    assert "cut.bin" not in [one["path"] for one in listed.get("files", ())]


def test_an_enormous_header_is_refused_and_nothing_else_happens(
    server: Proxied, client: requests.Session
) -> None:
    with suppress(requests.ConnectionError):
        answer = client.get(server.url + EXPERIMENT, headers={"X-Large": "x" * 10_000_000})
        assert answer.status_code in (400, 431)
    assert client.get(server.url + EXPERIMENT).status_code == 200


@pytest.mark.budget(60)
def test_a_slow_client_is_sent_away_and_the_others_are_served(
    server: Proxied, client: requests.Session
) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    slow = []
    for _ in range(100):
        plain = socket.create_connection(("localhost", port_of(server)))
        secured = context.wrap_socket(plain, server_hostname="localhost")
        secured.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        slow.append(secured)
    began_s = time.monotonic()
    assert client.get(server.url + EXPERIMENT).status_code == 200
    assert time.monotonic() - began_s < 5
    slow[0].settimeout(30)
    with suppress(ConnectionError, ssl.SSLError):
        assert b"200" not in slow[0].recv(1000)  # it is closed, perhaps with a 408
    assert time.monotonic() - began_s < 25
    for one in slow:
        one.close()


def test_a_killed_worker_of_nginx_is_replaced(server: Proxied, client: requests.Session) -> None:
    for worker in psutil.Process(server.nginx.pid).children():
        worker.kill()
    deadline_s = time.monotonic() + 10
    while True:
        with suppress(requests.ConnectionError):
            if client.get(server.url + EXPERIMENT).status_code == 200:
                break
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def test_a_renewed_certificate_drops_no_request(server: Proxied, client: requests.Session) -> None:
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            with requests.Session() as session:
                session.trust_env, session.auth, session.verify = False, ADMIN, str(server.ca)
                statuses.append(session.get(server.url + EXPERIMENT, timeout=30).status_code)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(3)]
    for one in callers:
        one.start()
    for _ in range(5):
        os.kill(server.nginx.pid, signal.SIGHUP)
        time.sleep(0.5)
    stop.set()
    for one in callers:
        one.join()
    assert len(statuses) > 20
    assert set(statuses) == {200}
