"""A VM of cloud-init/postgresql-s3-auth-tls.yaml, whose certificate comes from an authority.

The authority is Pebble: it issues, renews and refuses. The stores are PostgreSQL and versitygw.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from cryptography import x509

from mlflow_image.server import vms
from mlflow_image.server.local import free_port
from mlflow_settings import userdata
from tests.peers import guest, pebble, stores
from tests.peers.authority import Authority
from tests.peers.pebble import Pebble
from tests.peers.stores import Stores

from .conftest import Tasks, url_of

pytestmark = pytest.mark.full

NAME = "test-acme"
HOST = "mlflow.example.com"
RENEW = "sudo systemctl start mlflow-certificate 2>&1; sudo journalctl -o cat -u mlflow-certificate"
OWN_AUTHORITY = "mlflow-image of"
#: As MLflow's clients: a connection may be closed by nginx while it is idle (mlflow,
#: utils/request_utils.py).
RETRIES = urllib3.Retry(2, allowed_methods=None)
PEBBLE = "Pebble Intermediate"


@dataclass(frozen=True)
class Server:
    """The VM as a client reaches it."""

    port: int
    authority: Pebble

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @staticmethod
    def client() -> requests.Session:
        """A client that takes any certificate."""
        session = requests.Session()
        session.trust_env, session.verify = False, False
        return session

    def certificate(self) -> x509.Certificate:
        pem = ssl.get_server_certificate(("127.0.0.1", self.port))
        return x509.load_pem_x509_certificate(pem.encode())

    def issuer(self) -> str:
        return self.certificate().issuer.rfc4514_string()

    def wait_for(self, issuer: str, timeout_s: float = 400) -> None:
        deadline_s = time.monotonic() + timeout_s
        while issuer not in self.issuer():
            assert time.monotonic() < deadline_s, self.issuer()
            time.sleep(1)


def settings_of(peers: Stores, authority: Pebble, name: str = HOST) -> str:
    """The example's settings with its values in capitals filled in."""
    trusted = textwrap.indent(authority.ca, "      ").rstrip()
    own = f"directory_url: {authority.directory_url}\n    ca_certificate: |\n{trusted}"
    return peers.settings(
        "postgresql-s3-auth-tls.yaml",
        **{"SERVER_NAME": name, "OPERATOR_EMAIL": f"mlops@example.com\n    {own}"},
    )


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with stores.running(tmp_path_factory.mktemp("stores")) as found:
        yield found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    if pebble.programs() is None:
        pytest.skip("Pebble cannot be built here: Go and its module proxy are needed")
    base = tmp_path_factory.mktemp("pebble")
    with pebble.running(base, Authority(base / "ca"), free_port()) as found:
        yield found


@pytest.fixture(scope="module")
def server(
    tasks: Tasks,
    image: Path,
    peers: Stores,
    authority: Pebble,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("user-data") / "user-data"
    file.write_bytes(userdata.wrap(settings_of(peers, authority)) + guest.NAMES)
    with tasks.vm(NAME, "--user-data", str(file)) as done:
        yield Server(int(urlsplit(url_of(done)).port or 0), authority)


@contextmanager
def reachable_by(authority: Pebble) -> Iterator[None]:
    """The VM's port 80 where Pebble looks for it, as a firewall would open it to the internet."""
    machine = vms.find(NAME).machine
    words = machine.ssh_argv()
    forward = f"127.0.0.1:{authority.http_port}:127.0.0.1:80"
    process = subprocess.Popen(
        [words[0], "-N", "-L", forward, *words[1:]], stdin=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", authority.http_port)):
                break
            assert time.monotonic() < deadline_s
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.budget(600)
def test_until_there_is_a_certificate_a_self_signed_one_serves(server: Server) -> None:
    assert OWN_AUTHORITY in server.issuer()
    assert server.client().get(f"{server.url}/health", timeout=60).status_code == 200


@pytest.mark.budget(600)
def test_an_authority_that_cannot_reach_the_server_is_reported(
    server: Server, tasks: Tasks
) -> None:
    said = tasks.in_guest(NAME, RENEW)
    assert f"the authority gave no certificate: {HOST}: Get " in said, said
    assert "connection refused" in said, said
    assert PEBBLE not in server.issuer()


@pytest.mark.budget(400)
@pytest.mark.verifies("`cloud-init/postgresql-s3-auth-tls.yaml` boots with stores and an authority")
def test_the_example_lets_in_who_has_the_first_password_and_keeps_runs_in_its_stores(
    server: Server, tasks: Tasks, peers: Stores
) -> None:
    password = tasks.in_guest(NAME, "sudo cat /var/lib/mlflow-image/admin-password").strip()
    session = server.client()
    api = f"{server.url}/api/2.0/mlflow"
    assert session.post(f"{api}/runs/create", json={}, timeout=60).status_code == 401
    session.auth = ("admin", password)
    created = session.post(f"{api}/runs/create", json={"experiment_id": "0"}, timeout=60)
    assert created.status_code == 200, created.text
    assert peers.database.sql("SELECT count(*) FROM runs") == "1"
    assert peers.database.sql("SELECT count(*) FROM users WHERE username = 'admin'") == "1"
    artifacts = f"{server.url}/api/2.0/mlflow-artifacts/artifacts"
    assert session.put(f"{artifacts}/0/x", data=b"data", timeout=60).status_code == 200
    assert session.get(f"{artifacts}/0/x", timeout=60).content == b"data"


@pytest.mark.budget(900)
@pytest.mark.verifies("ACME: a certificate issued, renewed under load, and refused (Pebble)")
def test_a_certificate_is_issued_and_renewed_under_load(server: Server, tasks: Tasks) -> None:
    with reachable_by(server.authority):
        said = tasks.in_guest(NAME, RENEW)
        server.wait_for(PEBBLE)
        assert "the server has a new certificate" in said
        assert f"the certificate ends in {pebble.VALID_DAYS} days" in said
        first = server.certificate()
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [HOST]
        pool = urllib3.HTTPSConnectionPool(
            *("127.0.0.1", server.port),
            maxsize=4,
            server_hostname=HOST,
            assert_hostname=HOST,
            ca_certs=str(server.authority.root()),
        )
        failed: list[str] = []
        ended = threading.Event()

        def load() -> None:
            while not ended.is_set():
                try:
                    answer = pool.request("GET", "/health", timeout=60, retries=RETRIES)
                    if answer.status != 200:
                        failed.append(repr(answer.data))
                except urllib3.exceptions.HTTPError as error:
                    failed.append(repr(error))

        threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            tasks.in_guest(NAME, RENEW)
            deadline_s = time.monotonic() + 200
            while server.certificate().serial_number == first.serial_number:
                assert time.monotonic() < deadline_s
                time.sleep(1)
            time.sleep(5)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert failed == []
        assert PEBBLE in server.issuer()


@pytest.mark.budget(120)
def test_status_warns_of_the_certificate_that_ends_soon(server: Server, tasks: Tasks) -> None:
    said = tasks("status")
    assert f"ends in {pebble.VALID_DAYS} days" in said.stdout + said.stderr


@pytest.mark.budget(600)
def test_a_name_that_the_authority_refuses_is_reported_and_the_server_serves_on(
    server: Server, tasks: Tasks, peers: Stores
) -> None:
    text = settings_of(peers, server.authority, pebble.BLOCKED)
    put = f"sudo tee /etc/mlflow/settings.yaml > /dev/null <<'END'\n{text}END\n"
    said = tasks.in_guest(NAME, f"{put}sudo mlflow-configure --apply; {RENEW}")
    assert "the authority gave no certificate: " in said
    assert "forbidden" in said, said
    server.wait_for(OWN_AUTHORITY)
    assert server.client().get(f"{server.url}/health", timeout=60).status_code == 200
