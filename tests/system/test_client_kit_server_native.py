"""check.py of the client kit against real servers: accounts, rights, ways to artifacts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from mlflow_image.server import local, local_proxy
from mlflow_image.server.client_kit import Kit
from mlflow_settings import settings
from mlflow_settings.settings import Settings
from tests.peers import client_kit, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.s3 import S3

pytestmark = [
    pytest.mark.full,
    pytest.mark.budget(90),
    pytest.mark.skipif(not local_proxy.program(), reason="missing: nginx"),
]

CA = "MLFLOW_TRACKING_SERVER_CERT_PATH"
URI = "MLFLOW_TRACKING_URI"
USERS = """\
schema_version: 1
auth:
  basic:
    admin: {name: admin, password: canary-of-the-admin}
    users:
      - {name: ana, password: canary-of-ana}
      - {name: ben, password: canary-of-ben}
tls:
  self_signed: {names: [mlflow.example.com]}
"""


def python() -> Path:
    """A client's Python with MLflow."""
    return local.environment() / "bin" / "python"


@dataclass(frozen=True)
class Server:
    """A server. inner: its address without TLS. kit: with everything that a client needs."""

    url: str
    inner: str
    kit: Kit

    def client(self, folder: Path, **values: str) -> Path:
        """The kit unpacked on a client's machine. values: changed in .env."""
        place = client_kit.unpacked(self.kit, folder)
        client_kit.edit(place, values)
        return place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    chosen = settings.check(USERS, "settings.yaml")
    with local_proxy.running(tmp_path_factory.mktemp("users"), 1, chosen) as up:
        yield Server(up.url, up.inner, Kit(up.url, chosen, up.ca.read_text(), None, True))


def test_a_client_with_the_whole_kit_is_well_and_logs(server: Server, tmp_path: Path) -> None:
    place = server.client(tmp_path)
    said = client_kit.check(place, python())
    assert said.is_well, said.text
    assert len(said.lines) == 11
    assert "as ana" in said.lines["sign-in"]
    assert "through the server" in said.lines["artifacts"]
    line = f'. ./env.sh && exec "{python()}" first_run.py'
    ran = subprocess.run(
        ["sh", "-c", line],
        cwd=place,
        env=client_kit.environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "its file says: alpha: 0.5" in ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("values", "line", "cause", "remedy"),
    [
        ({"MLFLOW_TRACKING_PASSWORD": "wrong"}, "sign-in", "refuses the name ana", "users passwd"),
        ({"MLFLOW_TRACKING_USERNAME": "anna"}, "sign-in", "refuses the name anna", "users passwd"),
        ({"MLFLOW_TRACKING_PASSWORD": ""}, "kit", "_PASSWORD is not set in .env", "set it in .env"),
    ],
    ids=["the password is wrong", "the name is wrong", "there is no password"],
)
def test_check_says_that(
    values: dict[str, str], line: str, cause: str, remedy: str, server: Server, tmp_path: Path
) -> None:
    said = client_kit.check(server.client(tmp_path, **values), python())
    assert line in said.faults, said.text
    what, _, todo = said.faults[line].partition(" do: ")
    assert cause in what
    assert remedy in todo
    assert "canary" not in said.text
    if line == "kit":
        assert "none is set" in said.faults["sign-in"]


def test_a_name_that_the_server_refuses_is_named(server: Server, tmp_path: Path) -> None:
    # A way to write 127.0.0.1 that is in no list of names.
    other = server.inner.replace("127.0.0.1", "127.1")
    said = client_kit.check(server.client(tmp_path, **{URI: other}), python())
    assert "refuses the name 127.1:" in said.faults["server"], said.text
    assert "do: add 127.1:" in said.faults["server"]
    assert "server.allowed_hosts" in said.faults["server"]


def test_http_that_is_redirected_to_https_is_named(server: Server, tmp_path: Path) -> None:
    plain = server.url.replace("https:", "http:")
    said = client_kit.check(server.client(tmp_path, **{URI: plain}), python())
    assert f"redirects to {server.url} do: write that address" in said.faults["server"], said.text


def test_a_user_who_may_only_read_is_told_whom_to_ask(server: Server, tmp_path: Path) -> None:
    created = requests.post(
        f"{server.inner}/api/2.0/mlflow/experiments/create",
        json={"name": "of-ana"},
        auth=("ana", "canary-of-ana"),
        timeout=30,
    )
    assert created.status_code == 200
    values = {
        "MLFLOW_TRACKING_USERNAME": "ben",
        "MLFLOW_TRACKING_PASSWORD": "canary-of-ben",
        "MLFLOW_EXPERIMENT_NAME": "of-ana",
    }
    said = client_kit.check(server.client(tmp_path, **values), python())
    assert list(said.faults) == ["write"], said.text
    assert "ben may not write to experiment of-ana" in said.faults["write"]
    assert "mlflow-admin users grant ben experiment ID EDIT" in said.faults["write"]
    values["MLFLOW_EXPERIMENT_NAME"] = "of-ben"
    assert client_kit.check(server.client(tmp_path / "2", **values), python()).is_well


@pytest.mark.parametrize(
    ("version", "said_of_it"), [("1.30.1", "too old for"), ("4.0.0", "newer than the server's")]
)
def test_an_mlflow_that_does_not_fit_is_named(
    version: str, said_of_it: str, server: Server, tmp_path: Path
) -> None:
    about = tmp_path / "site" / f"mlflow-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlflow\nVersion: {version}\n")
    place = server.client(tmp_path)
    said = client_kit.check(place, python(), PYTHONPATH=str(about.parent))
    assert f"MLflow {version} is {said_of_it}" in said.faults["MLflow"], said.text
    assert "pip install -r requirements.txt" in said.faults["MLflow"]


# --- Artifacts in S3 ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A server with artifacts in S3. folder: of the store's buckets."""

    server: Server
    store: S3
    folder: Path
    authority: Authority


def started(way: str, folder: Path) -> Iterator[Stored]:
    """A server whose settings have these lines in artifact_store.s3."""
    if versitygw.program() is None:
        pytest.skip("versitygw cannot be built here: Go and its module proxy are needed")
    authority = Authority(folder / "ca")
    with versitygw.running(folder / "s3", authority) as store:
        chosen = with_store(store, way)
        place = folder / "server"
        place.mkdir()
        with local.ours(place, 1, stores=chosen) as url:
            kit = Kit(url, chosen, store.ca, None, True)
            yield Stored(Server(url, url, kit), store, folder / "s3", authority)


def with_store(store: S3, way: str) -> Settings:
    return settings.check(
        f"""\
schema_version: 1
artifact_store:
  s3:
    bucket: {s3.BUCKET}
    endpoint_url: {store.url}
    region: us-east-1
    access_key_id: {s3.ACCESS_KEY}
    secret_access_key: {s3.SECRET_KEY}
    addressing: path
    {way}
    ca_certificate: |
{textwrap.indent(store.ca, "      ")}
""",
        "settings.yaml",
    )


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    yield from started("access: direct", tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="module")
def presigned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    yield from started("clients_reach_endpoint: true", tmp_path_factory.mktemp("presigned"))


def test_a_client_with_a_key_of_the_store_is_well(direct: Stored, tmp_path: Path) -> None:
    said = client_kit.check(direct.server.client(tmp_path), python())
    assert said.is_well, said.text
    assert "in S3, with your own key" in said.lines["artifacts"]
    assert "answers; the certificate is valid until" in said.lines["store"]


@pytest.mark.parametrize(
    ("values", "line", "cause", "remedy"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            *("artifacts", "the secret key is wrong", "correct AWS_SECRET_ACCESS_KEY"),
        ),
        (
            {"AWS_ACCESS_KEY_ID": "nobody"},
            *("artifacts", "does not know the access key", "correct AWS_ACCESS_KEY_ID"),
        ),
        (
            {"AWS_SECRET_ACCESS_KEY": "YOUR_OWN_KEY"},
            *("kit", "is still YOUR_OWN_KEY", "replace YOUR_OWN_KEY in .env"),
        ),
        (
            {"MLFLOW_S3_ENDPOINT_URL": "https://localhost:1"},
            *("store", "localhost port 1 refuses", "correct the port in MLFLOW_S3_ENDPOINT_URL"),
        ),
        (
            {"MLFLOW_S3_ENDPOINT_URL": "localhost:1"},
            *("store", "which is not a URL", "correct it in .env"),
        ),
        ({"AWS_CA_BUNDLE": ""}, "store", "not signed by a public CA", "set AWS_CA_BUNDLE"),
    ],
    ids=[
        "the secret key is wrong",
        "the access key is wrong",
        "the key is still to be replaced",
        "the endpoint does not answer",
        "the endpoint is no URL",
        "the CA of the store is not given",
    ],
)
def test_check_says_of_the_store_that(
    values: dict[str, str], line: str, cause: str, remedy: str, direct: Stored, tmp_path: Path
) -> None:
    said = client_kit.check(direct.server.client(tmp_path, **values), python())
    assert line in said.faults, said.text
    what, _, todo = said.faults[line].partition(" do: ")
    assert cause in what, said.text
    assert remedy in todo, said.text
    assert s3.SECRET_KEY not in said.text


def test_the_wrong_ca_of_the_store_is_named(direct: Stored, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").certificate
    said = client_kit.check(direct.server.client(tmp_path, AWS_CA_BUNDLE=str(other)), python())
    assert f"not signed by a CA in {other}" in said.faults["store"], said.text


def test_a_bucket_that_is_gone_is_named(direct: Stored, tmp_path: Path) -> None:
    bucket = direct.folder / "buckets" / s3.BUCKET
    bucket.rename(bucket.with_name("moved"))
    try:
        said = client_kit.check(direct.server.client(tmp_path), python())
    finally:
        bucket.with_name("moved").rename(bucket)
    assert "there is no such bucket" in said.faults["artifacts"], said.text


def test_a_client_that_reads_by_presigned_url_is_well(presigned: Stored, tmp_path: Path) -> None:
    said = client_kit.check(presigned.server.client(tmp_path), python())
    assert said.is_well, said.text
    assert "by presigned URL" in said.lines["artifacts"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount of its own")
def test_a_store_that_only_the_server_reaches_is_named(presigned: Stored, tmp_path: Path) -> None:
    # On this client's machine, the store's name is that of another address.
    (tmp_path / "hosts").write_text("127.0.0.9 localhost\n")
    client = tmp_path / "python"
    client.write_text(
        f"#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {tmp_path}/hosts /etc/hosts && "
        f'exec {python()} "$@"\' sh "$@"\n'
    )
    client.chmod(0o755)
    said = client_kit.check(presigned.server.client(tmp_path), client)
    assert "refuses the connection" in said.faults["store"], said.text
    assert "write" not in said.faults


def test_a_client_that_does_not_trust_the_store_is_told_so(
    presigned: Stored, tmp_path: Path
) -> None:
    values = {"REQUESTS_CA_BUNDLE": ""}
    said = client_kit.check(presigned.server.client(tmp_path, **values), python())
    assert "do: set REQUESTS_CA_BUNDLE" in said.faults["store"], said.text
    unknown = replace(presigned.server, kit=replace(presigned.server.kit, settings=None))
    said = client_kit.check(unknown.client(tmp_path / "2", **values), python())
    assert "by presigned URL: the certificate" in said.faults["artifacts"], said.text
    assert "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false" in said.faults["artifacts"]


def test_a_store_that_the_server_cannot_use_is_named(tmp_path: Path) -> None:
    if versitygw.program() is None:
        pytest.skip("versitygw cannot be built here: Go and its module proxy are needed")
    place = tmp_path / "server"
    place.mkdir()
    with contextlib.ExitStack() as started_last, contextlib.ExitStack() as stack:
        store = stack.enter_context(versitygw.running(tmp_path / "s3", Authority(tmp_path / "ca")))
        chosen = with_store(store, "access: proxied")
        url = started_last.enter_context(local.ours(place, 1, stores=chosen))
        stack.close()
        server = Server(url, url, Kit(url, chosen, "", None, True))
        said = client_kit.check(server.client(tmp_path), python())
    assert list(said.faults) == ["artifacts"], said.text
    assert "the server cannot use its artifact store" in said.faults["artifacts"]
    assert "journalctl -u mlflow-tracking" in said.faults["artifacts"]
