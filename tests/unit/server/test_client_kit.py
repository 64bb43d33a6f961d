"""The client kit: the same bytes, the right files, no secret unless it was asked for."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.images.find import Image
from mlflow_image.server import client_kit
from mlflow_image.server.client_kit import FOLDER, Kit
from mlflow_settings import settings
from tests.peers.authority import Authority

CASES = Path(__file__).parents[1] / "mlflow_settings" / "cases"
CANARY = "canary-of-the-kit"
TEXT = f"""\
schema_version: 1
auth:
  basic:
    admin: {{name: admin, password: {CANARY}-admin}}
    users: [{{name: ana, password: {CANARY}-ana}}]
tls:
  self_signed: {{names: [mlflow.example.com]}}
artifact_store:
  s3:
    bucket: runs
    prefix: team
    endpoint_url: https://s3.example.com
    region: r1
    access_key_id: {CANARY}-id
    secret_access_key: {CANARY}-secret
    access: direct
"""
URL = "https://mlflow.example.com"
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def kit(text: str = TEXT, **more: Any) -> Kit:
    return Kit(
        **{"url": URL, "settings": settings.check(text, "x"), "ca": PEM, "image": None, **more}
    )


def entries(packed: bytes) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return {one.filename.removeprefix(f"{FOLDER}/"): one for one in archive.infolist()}


def text_of(packed: bytes, name: str) -> str:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return archive.read(f"{FOLDER}/{name}").decode()


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert client_kit.write(kit()) == client_kit.write(kit())


def test_a_kit_has_what_a_client_needs_and_nothing_else() -> None:
    found = set(entries(client_kit.write(kit())))
    modules = {name for name in found if name.startswith("client_check/")}
    assert modules >= {"client_check/main.py", "client_check/tls.py"}
    assert found - modules == {
        *(".env", "env.sh", "README.txt", "kit.json", "requirements.txt"),
        "requirements-older.txt",
        *("check.py", "first_run.py", "mlflow-ca.pem"),
    }


def test_no_secret_is_in_a_kit_that_is_for_everybody() -> None:
    packed = client_kit.write(kit())
    assert CANARY.encode() not in packed
    assert "MLFLOW_TRACKING_PASSWORD=YOUR_PASSWORD" in text_of(packed, ".env")
    assert client_kit.placeholders(kit()) == ["YOUR_NAME", "YOUR_OWN_KEY", "YOUR_PASSWORD"]


def test_secrets_that_were_asked_for_are_in_one_private_file() -> None:
    whole = kit(with_secrets=True)
    packed = client_kit.write(whole)
    holds = [name for name in entries(packed) if CANARY in text_of(packed, name)]
    assert holds == [".env"]
    assert entries(packed)[".env"].external_attr >> 16 & 0o777 == 0o600
    assert f"{CANARY}-admin" not in text_of(packed, ".env")
    assert client_kit.placeholders(whole) == []


def test_kit_json_says_what_the_check_compares_with() -> None:
    said = json.loads(text_of(client_kit.write(kit()), "kit.json"))
    assert said["url"] == URL
    assert said["artifacts"] == {
        "way": "s3",
        "uri": "s3://runs/team",
        "endpoint": "https://s3.example.com",
    }
    assert "MLFLOW_TRACKING_PASSWORD" in said["variables"]
    assert "AWS_SECRET_ACCESS_KEY" not in said["variables"]


@pytest.mark.parametrize(
    ("changed", "way"),
    [
        ("access: proxied", "server"),
        ("access: proxied\n    clients_reach_endpoint: true", "presigned"),
    ],
)
def test_the_way_to_the_artifacts_is_that_of_the_settings(changed: str, way: str) -> None:
    said = client_kit.description(kit(TEXT.replace("access: direct", changed)))
    assert said["artifacts"]["way"] == way  # type: ignore[index]
    assert "boto3" not in client_kit.requirements(kit(TEXT.replace("access: direct", changed)))


def test_clients_install_the_mlflow_of_the_server() -> None:
    lines = client_kit.requirements(kit()).splitlines()
    assert f"mlflow-skinny=={kit().mlflow}" in lines
    assert "boto3" in lines


def test_clients_of_hdfs_get_hadoops_files_and_the_plugin(tmp_path: Path) -> None:
    text = (CASES / "hdfs-with-everything/settings.yaml").read_text()
    assert "access: direct" in text
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients/mlflow_hdfs-0.1.0-py3-none-any.whl").write_bytes(b"wheel")
    image = Image("x", tmp_path, tmp_path / "disk.qcow2", None)
    whole = kit(text, image=image, ca="", url="http://h:8000")
    found = set(entries(client_kit.write(whole)))
    assert found >= {
        "hadoop-conf/core-site.xml",
        "hadoop-conf/hdfs-site.xml",
        "hadoop-conf/krb5.conf",
        "mlflow_hdfs-0.1.0-py3-none-any.whl",
    }
    assert "./mlflow_hdfs-0.1.0-py3-none-any.whl" in client_kit.requirements(whole)
    assert client_kit.description(whole)["artifacts"] == {
        "way": "hdfs",
        "uri": settings.check(text, "x").artifact_store.hdfs.uri,  # type: ignore[union-attr]
        "namenodes": ["nn.example.com:8020"],
        "wheel": "mlflow_hdfs-0.1.0-py3-none-any.whl",
    }
    assert "HADOOP_CONF_DIR=hadoop-conf" in text_of(client_kit.write(whole), ".env")


PUBLIC = "acme: {names: [mlflow.example.com], email: me@example.com}"


def test_the_store_s_ca_does_not_stand_for_a_public_server_s(tmp_path: Path) -> None:
    own = Authority(tmp_path).certificate.read_text()
    public = TEXT.replace("self_signed: {names: [mlflow.example.com]}", PUBLIC)
    public += f"    ca_certificate: {json.dumps(own)}\n"
    for given in ("", PEM):
        packed = client_kit.write(kit(public, ca=given))
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" not in text_of(packed, ".env")
        assert "AWS_CA_BUNDLE=mlflow-ca.pem" in text_of(packed, ".env")
        assert text_of(packed, "mlflow-ca.pem") == given + own.strip() + "\n"


def test_a_ca_that_was_given_is_set_for_a_server_of_unknown_settings() -> None:
    unknown = kit(settings=None)
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH=mlflow-ca.pem" in text_of(
        client_kit.write(unknown), ".env"
    )
    assert client_kit.description(unknown)["artifacts"] == {}
