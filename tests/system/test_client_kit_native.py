"""check.py of the client kit names each fault that can be planted without an MLflow server."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_image.server import local
from mlflow_image.server.client_kit import Kit
from mlflow_settings import settings
from tests.peers import client_kit, environments
from tests.peers.authority import Authority
from tests.peers.client_kit import Said
from tests.standins import odd_servers

HDFS = """\
schema_version: 1
artifact_store:
  hdfs: {namenode: "localhost:1", path: /runs, access: direct, user: ana}
"""
CA = "MLFLOW_TRACKING_SERVER_CERT_PATH"
URI = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Peers:
    """What is on this machine besides the client. ports: what listens -> its port."""

    folder: Path
    ports: Mapping[str, int]
    authority: Authority
    other: Authority
    incomplete: Authority

    def url(self, name: str, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.ports[name]}"

    def secure(self, name: str = "tls") -> dict[str, str]:
        """A server with TLS, and its CA."""
        return {URI: self.url(name, "https", "localhost"), CA: str(self.authority.certificate)}


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    folder = tmp_path_factory.mktemp("peers")
    own, other = Authority(folder / "own"), Authority(folder / "other")
    incomplete = Authority(folder / "incomplete", complete=False)
    with contextlib.ExitStack() as started:
        enter = started.enter_context
        foreign = "<html>the wiki</html>"
        ports = {
            "closed": local.free_port(),
            "full": enter(odd_servers.full()),
            "silent": enter(odd_servers.saying(b"")),
            "ssh": enter(odd_servers.saying(b"SSH-2.0-OpenSSH_9.2\r\n")),
            "wiki": enter(odd_servers.web(404, foreign)),
            "starting": enter(odd_servers.web(502, "Bad Gateway")),
            "proxy": enter(odd_servers.web(403, "blocked by the company")),
            "tls": enter(odd_servers.web(404, foreign, own.issue("localhost"))),
            "expired": enter(odd_servers.web(404, foreign, own.issue("localhost", days=-1))),
            "named": enter(odd_servers.web(404, foreign, own.issue("wiki.example.com"))),
            "incomplete": enter(odd_servers.web(404, foreign, incomplete.issue("localhost"))),
        }
        yield Peers(folder, ports, own, other, incomplete)


@dataclass(frozen=True)
class Planted:
    """A fault. values: of .env. line: the line of the report that names it."""

    values: Callable[[Peers], Mapping[str, str]]
    line: str
    cause: str
    remedy: str
    environment: Callable[[Peers], Mapping[str, str]] = lambda _: {}


def url(text: str) -> Callable[[Peers], Mapping[str, str]]:
    return lambda _: {URI: text}


def at(name: str, scheme: str = "http") -> Callable[[Peers], Mapping[str, str]]:
    return lambda peers: {URI: peers.url(name, scheme)}


FAULTS = {
    "the address has no scheme": Planted(
        url("10.1.2.3:8000"), "kit", "not a server's URL", "https://NAME or http://NAME:PORT"
    ),
    "the address has a password and no scheme": Planted(
        url("ana:canary@10.1.2.3:8000"), "kit", "is ...@10.1.2.3:8000, which is not", "correct it"
    ),
    "the address was copied from a page": Planted(
        url("https://mlflow.example.com/#/experiments/1"), "kit", "address of a page", "without"
    ),
    "the address contains a password": Planted(
        url("https://ana:canary@localhost"), "kit", "a name or a password", "_PASSWORD instead"
    ),
    "the address is still to be replaced": Planted(
        url("http://SERVER_ADDRESS:8000"), "kit", "still http://", "replace SERVER_ADDRESS in .env"
    ),
    "the password is still to be replaced": Planted(
        lambda peers: {**at("wiki")(peers), "MLFLOW_TRACKING_PASSWORD": "YOUR_PASSWORD"},
        *(
            "kit",
            "MLFLOW_TRACKING_PASSWORD is still YOUR_PASSWORD",
            "replace YOUR_PASSWORD in .env",
        ),
    ),
    "a value is in quotes": Planted(
        lambda peers: {**at("wiki")(peers), "MLFLOW_TRACKING_USERNAME": '"ana"'},
        *("kit", "MLFLOW_TRACKING_USERNAME in .env is in quotes", "remove them"),
    ),
    "there is no such name": Planted(
        url("https://no-such-host.invalid"), "name", "does not resolve", f"correct {URI}"
    ),
    "nothing listens on the port": Planted(
        at("closed"), "port", "refuses the connection", "correct the port"
    ),
    "the host does not answer": Planted(
        at("full"), "port", "does not answer within 2 s", "firewall"
    ),
    "the server takes the connection and is silent": Planted(
        at("silent"), "server", "takes the connection, but does not answer", "the server hangs"
    ),
    "another program listens": Planted(
        at("ssh"), "server", "does not answer in HTTP", "correct the port"
    ),
    "another web server answers": Planted(
        at("wiki"), "server", "no MLflow server (status 404)", "correct the name, the port"
    ),
    "the proxy in front waits for MLflow": Planted(
        at("starting"), "server", "status 502: it is not ready", "journalctl -u mlflow-tracking"
    ),
    "the address has http instead of https": Planted(
        at("tls"), "server", "speaks HTTPS", f"write https:// in {URI}"
    ),
    "the address has https instead of http": Planted(
        at("wiki", "https"), "TLS", "does not speak TLS", f"write http:// in {URI}"
    ),
    "the kit's CA is another one": Planted(
        lambda peers: {**peers.secure(), CA: str(peers.other.certificate)},
        *("TLS", "not signed by a CA in", "ask for a new kit"),
    ),
    "the CA is not given": Planted(
        lambda peers: {**peers.secure(), CA: ""}, "TLS", "not signed by a public CA", f"set {CA}"
    ),
    "the system knows the CA and Python does not": Planted(
        lambda peers: {**peers.secure(), CA: ""},
        *("TLS", "known to this system", "export REQUESTS_CA_BUNDLE="),
        lambda peers: {"SSL_CERT_FILE": str(peers.authority.certificate)},
    ),
    "the CA's file is gone": Planted(
        lambda peers: {**peers.secure(), CA: "gone.pem"}, "kit", "does not exist", "copy the kit's"
    ),
    "the CA's file is no certificate": Planted(
        lambda peers: {**peers.secure(), CA: "README.txt"}, "TLS", "cannot be read", "a PEM file"
    ),
    "the certificate has expired": Planted(
        lambda peers: peers.secure("expired"), "TLS", "has expired", "renew it on the server"
    ),
    "the certificate is for another name": Planted(
        lambda peers: peers.secure("named"),
        *("TLS", "is not for localhost, but for wiki.example.com", "use one of its names"),
    ),
    "certificates are not checked at all": Planted(
        lambda peers: {**peers.secure(), CA: "", "MLFLOW_TRACKING_INSECURE_TLS": "true"},
        *("TLS", "anyone may pretend", "unset it"),
    ),
    "a proxy is in the way of HTTPS": Planted(
        lambda peers: peers.secure(),
        *("port", "answers '403", "reached without it: export NO_PROXY=localhost"),
        lambda peers: {"HTTPS_PROXY": peers.url("proxy")},
    ),
    "a proxy is in the way of HTTP": Planted(
        at("wiki"),
        *("server", "answers status 403 instead", "without it: export NO_PROXY=127.0.0.1"),
        lambda peers: {"HTTP_PROXY": peers.url("proxy")},
    ),
    "the proxy does not run": Planted(
        lambda peers: peers.secure(),
        *("port", "the proxy http://127.0.0.1", "export NO_PROXY=localhost"),
        lambda peers: {"https_proxy": peers.url("closed").replace("//", "//me:canary@")},
    ),
}


def planted(values: Mapping[str, str], folder: Path) -> Path:
    """The folder of a kit with these values in .env."""
    return client_kit.changed(Kit(values[URI], None, "", None), folder, values)


@pytest.fixture(scope="module")
def answers(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """What check.py says to each fault; all at once, because many of them wait."""

    def ask(fault: Planted) -> Said:
        place = planted(fault.values(peers), tmp_path_factory.mktemp("client"))
        return client_kit.check(place, **fault.environment(peers))

    with ThreadPoolExecutor(6) as pool:
        return dict(zip(FAULTS, pool.map(ask, FAULTS.values()), strict=True))


@pytest.mark.budget(30)
@pytest.mark.parametrize("name", FAULTS)
def test_check_names_the_cause_and_the_remedy_when(name: str, answers: Mapping[str, Said]) -> None:
    fault, said = FAULTS[name], answers[name]
    assert said.code == 1
    assert next(iter(said.faults)) == fault.line, said.text
    what, _, remedy = said.faults[fault.line].partition(" do: ")
    assert fault.cause in what, said.text
    assert fault.remedy in remedy, said.text
    assert "canary" not in said.text


@pytest.mark.parametrize("version", ["2.7", "3.8"])
def test_a_python_that_is_too_old_is_told_so(version: str, peers: Peers, tmp_path: Path) -> None:
    if not (python := environments.interpreter(version)):
        pytest.skip(f"there is no Python {version} here")
    said = client_kit.check(planted({URI: "http://localhost"}, tmp_path), python)
    assert said.code == 1
    assert f"this is Python {version}." in said.lines["Python"]
    assert "do: run check.py with Python 3.9 or newer" in said.lines["Python"]


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_a_ca_without_key_identifiers_is_named_by_the_python_that_refuses_it(
    version: str, peers: Peers, tmp_path: Path
) -> None:
    if not (python := environments.interpreter(version)):
        pytest.skip(f"there is no Python {version} here")
    values = {**peers.secure("incomplete"), CA: str(peers.incomplete.certificate)}
    said = client_kit.check(planted(values, tmp_path), python)
    if version == "3.9":
        assert said.lines["TLS"].startswith("ok"), said.text
        assert "needs 3.10 or newer" in said.faults["Python"]
    else:
        assert "Python 3.13 refuses the CA's certificate, which is incomplete" in said.faults["TLS"]
        assert "Authority Key Identifier" in said.faults["TLS"].partition(" do: ")[2]


@pytest.mark.parametrize(
    ("off", "said_of_it"), [("-1h", "60 minutes behind"), ("+3y", "1095 days ahead of")]
)
def test_a_clock_that_is_off_is_named_and_not_the_certificate(
    off: str, said_of_it: str, peers: Peers, tmp_path: Path
) -> None:
    if not (library := next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)):
        pytest.skip("missing: libfaketime")
    faked = {"LD_PRELOAD": str(library), "FAKETIME": off, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    said = client_kit.check(planted(peers.secure(), tmp_path), **faked)
    assert f"clock is {said_of_it} the server's do: set the one" in said.faults["clock"], said.text
    if off == "+3y":
        assert "has expired do: correct this machine's clock" in said.faults["TLS"], said.text


def test_what_clients_of_hdfs_lack_is_named(tmp_path: Path, peers: Peers) -> None:
    chosen = settings.check(HDFS, "x")
    place = client_kit.unpacked(Kit(peers.url("wiki"), chosen, "", None), tmp_path)
    said = client_kit.check(place)
    assert "the plugin for HDFS is not installed" in said.faults["store"]
    assert "pip install" in said.faults["store"]


def test_env_sh_sets_what_env_has_and_evaluates_nothing(tmp_path: Path) -> None:
    values = {URI: "http://h", CA: "ca.pem", "MLFLOW_TRACKING_PASSWORD": "a$(id)`id`'\"\\ b"}
    place = planted(values, tmp_path)
    for shell in ("sh", "bash"):
        line = f'cd "{place}" && . ./env.sh && exec python3 -c "import os; print(dict(os.environ))"'
        done = subprocess.run(
            [shell, "-euc", line],
            env=client_kit.environment({}),
            capture_output=True,
            text=True,
            check=True,
        )
        for text in ({**values, CA: f"{place}/ca.pem"}).items():
            assert f"{text[0]!r}: {text[1]!r}" in done.stdout
        assert done.stderr == ""
