"""check.py of the client kit with artifacts in S3: directly, by presigned URL, by the server."""

from __future__ import annotations

import base64
import contextlib
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlflow_image.server import local
from mlflow_image.server.client_kit import Kit
from mlflow_settings import settings
from mlflow_settings.settings import Settings
from tests.peers import client_kit, kdc, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.client_kit import mlflow_python
from tests.peers.s3 import S3

from . import hdfs_rig

pytestmark = [pytest.mark.full, pytest.mark.budget(90)]


@dataclass(frozen=True)
class Stored:
    """A server with artifacts in S3. folder: of the store's buckets."""

    kit: Kit
    folder: Path

    def client(self, folder: Path, **values: str) -> Path:
        """The kit unpacked on a client's machine. values: changed in .env."""
        return client_kit.changed(self.kit, folder, values)


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
            yield Stored(Kit(url, chosen, store.ca, None, True), folder / "s3")


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
    said = client_kit.check(direct.client(tmp_path), mlflow_python())
    assert said.is_well, said.text
    assert "in S3, with your own key" in said.lines["artifacts"]
    assert "answers; the certificate is valid until" in said.lines["store"]


@pytest.mark.parametrize(
    ("values", "line", "cause", "remedy"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "wrong"},
            *(
                "artifacts",
                "S3, bucket runs: the secret key is wrong",
                "correct AWS_SECRET_ACCESS_KEY",
            ),
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
    said = client_kit.check(direct.client(tmp_path, **values), mlflow_python())
    assert line in said.faults, said.text
    what, _, todo = said.faults[line].partition(" do: ")
    assert cause in what, said.text
    assert remedy in todo, said.text
    assert s3.SECRET_KEY not in said.text


def test_the_wrong_ca_of_the_store_is_named(direct: Stored, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other").certificate
    said = client_kit.check(direct.client(tmp_path, AWS_CA_BUNDLE=str(other)), mlflow_python())
    assert f"not signed by a CA in {other}" in said.faults["store"], said.text


def test_a_bucket_that_is_gone_is_named(direct: Stored, tmp_path: Path) -> None:
    bucket = direct.folder / "buckets" / s3.BUCKET
    bucket.rename(bucket.with_name("moved"))
    try:
        said = client_kit.check(direct.client(tmp_path), mlflow_python())
    finally:
        bucket.with_name("moved").rename(bucket)
    assert "there is no such bucket" in said.faults["artifacts"], said.text


def test_a_client_that_reads_by_presigned_url_is_well(presigned: Stored, tmp_path: Path) -> None:
    said = client_kit.check(presigned.client(tmp_path), mlflow_python())
    assert said.is_well, said.text
    assert "by presigned URL" in said.lines["artifacts"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount of its own")
def test_a_store_that_only_the_server_reaches_is_named(presigned: Stored, tmp_path: Path) -> None:
    # On this client's machine, the store's name is that of another address.
    (tmp_path / "hosts").write_text("127.0.0.9 localhost\n")
    client = tmp_path / "python"
    client.write_text(
        f"#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {tmp_path}/hosts /etc/hosts && "
        f'exec {mlflow_python()} "$@"\' sh "$@"\n'
    )
    client.chmod(0o755)
    said = client_kit.check(presigned.client(tmp_path), client)
    assert "refuses the connection" in said.faults["store"], said.text
    assert "or export MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false" in said.faults["store"]
    assert "write" not in said.faults


def test_a_client_may_read_through_the_server_instead(presigned: Stored, tmp_path: Path) -> None:
    values = {"REQUESTS_CA_BUNDLE": "", "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false"}
    said = client_kit.check(presigned.client(tmp_path, **values), mlflow_python())
    assert said.is_well, said.text
    assert "through the server" in said.lines["artifacts"]


def test_a_client_that_does_not_trust_the_store_is_told_so(
    presigned: Stored, tmp_path: Path
) -> None:
    values = {"REQUESTS_CA_BUNDLE": ""}
    said = client_kit.check(presigned.client(tmp_path, **values), mlflow_python())
    assert "do: set REQUESTS_CA_BUNDLE" in said.faults["store"], said.text
    unknown = replace(presigned, kit=replace(presigned.kit, settings=None))
    said = client_kit.check(unknown.client(tmp_path / "2", **values), mlflow_python())
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
        client = client_kit.changed(Kit(url, chosen, "", None, True), tmp_path, {})
        said = client_kit.check(client, mlflow_python())
    assert list(said.faults) == ["artifacts"], said.text
    assert "the server cannot use its artifact store" in said.faults["artifacts"]
    assert "journalctl -u mlflow-tracking" in said.faults["artifacts"]


@pytest.mark.budget(300)
def test_a_client_of_hdfs_is_well_with_a_ticket_and_told_so_without(tmp_path: Path) -> None:
    place = tmp_path / "server"
    place.mkdir()
    with hdfs_rig.running(tmp_path / "rig") as rig:
        chosen = settings.check(with_cluster(rig), "settings.yaml")
        own = {"KRB5_CLIENT_KTNAME": str(rig.keytab), "KRB5CCNAME": f"FILE:{tmp_path}/tickets"}
        nobody = {"KRB5CCNAME": f"FILE:{tmp_path}/none"}
        with local.ours(place, 1, stores=chosen) as url:
            client = client_kit.changed(Kit(url, chosen, "", None, True), tmp_path, {})
            said = client_kit.check(client, mlflow_python(), **own)
            assert said.is_well, said.text
            assert "in hdfs, directly" in said.lines["artifacts"]
            said = client_kit.check(client, mlflow_python(), **nobody)
            assert list(said.faults) == ["artifacts"], said.text
            assert "kinit" in said.faults["artifacts"].partition(" do: ")[2], said.text
    said = client_kit.check(client, mlflow_python(), **own)
    assert "HDFS: localhost port" in said.faults["store"], said.text


def with_cluster(rig: hdfs_rig.Rig) -> str:
    keytab = base64.b64encode(rig.keytab.read_bytes()).decode()
    return f"""\
schema_version: 1
artifact_store:
  hdfs:
    namenode: "localhost:{rig.hdfs.port}"
    path: {hdfs_rig.HOME}
    access: direct
    principal: {hdfs_rig.USER}@{kdc.REALM}
    keytab: {keytab}
    protection: privacy
    krb5:
      realm: {kdc.REALM}
      kdcs: ["127.0.0.1:{rig.kdc.port}"]
      domain_realm: {{localhost: {kdc.REALM}}}
"""
