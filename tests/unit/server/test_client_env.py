"""What clients are told to set, in every format, and what is kept from them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from mlflow_image.server import client_env
from mlflow_launch.guards import doors
from mlflow_settings import settings
from tests.peers.authority import Authority

KEY = "can'ary$x{y}"
DIRECT = f"""\
schema_version: 1
server: {{allowed_hosts: ["*.example.com", mlflow.example.com]}}
artifact_store:
  s3:
    bucket: runs
    endpoint_url: https://s3.example.com
    region: r1
    access_key_id: id
    secret_access_key: "{KEY}"
    addressing: path
    access: direct
"""
PROXIED = DIRECT.replace("direct", "proxied")


def found(text: str, **options: bool) -> dict[str, str]:
    checked = settings.check(text, "x")
    url = client_env.address(checked)
    return {one.name: one.value for one in client_env.variables(url, checked, "/ca.pem", **options)}


def test_clients_of_a_proxied_store_need_the_address_only() -> None:
    assert found(PROXIED) == {"MLFLOW_TRACKING_URI": "http://mlflow.example.com:8000"}


def test_clients_of_a_direct_store_get_no_key_unless_asked() -> None:
    shown = found(DIRECT)
    assert shown["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com"
    assert shown["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
    assert shown["AWS_SECRET_ACCESS_KEY"] == client_env.OWN_KEY
    assert found(DIRECT, with_secrets=True)["AWS_SECRET_ACCESS_KEY"] == KEY


def test_where_requests_gets_a_ca_it_keeps_the_public_ones(tmp_path: Path) -> None:
    own = Authority(tmp_path).certificate.read_text()
    stored = PROXIED + f"    ca_certificate: {json.dumps(own)}\n"
    reached = settings.check(f"{stored}    clients_reach_endpoint: true\n", "x")
    ca = client_env.ca_of(reached)
    assert ca.startswith(own.strip())
    assert ca.endswith(Path(DEFAULT_CA_BUNDLE_PATH).read_text())
    assert client_env.ca_of(settings.check(stored, "x")) == "", "artifacts go through the server"
    direct = settings.check(stored.replace("proxied", "direct"), "x")
    assert client_env.ca_of(direct).strip() == own.strip(), (
        "boto3's variable is for the store alone"
    )


USERS = """\
schema_version: 1
auth:
  basic:
    admin: {password: {from_file: /etc/mlflow/admin}}
    users: [{name: ana, password: canary of ana}]
"""


def test_clients_of_a_server_with_users_sign_in() -> None:
    asked = found(USERS)
    assert asked["MLFLOW_TRACKING_USERNAME"] == "YOUR_NAME"
    assert asked["MLFLOW_TRACKING_PASSWORD"] == "YOUR_PASSWORD"
    shown = found(USERS, with_secrets=True)
    assert shown["MLFLOW_TRACKING_USERNAME"] == "ana"
    assert shown["MLFLOW_TRACKING_PASSWORD"] == "canary of ana"


def test_a_password_that_only_the_machine_knows_is_left_to_the_reader() -> None:
    made = found("schema_version: 1\nauth: {basic: {}}\n", with_secrets=True)
    assert made["MLFLOW_TRACKING_PASSWORD"] == "YOUR_PASSWORD"


def test_without_a_name_the_address_is_left_to_the_reader() -> None:
    assert client_env.address(settings.Settings()) == "http://SERVER_ADDRESS:8000"


def test_every_format_gives_back_the_same_values() -> None:
    checked = settings.check(DIRECT, "x")
    every = client_env.variables("http://h:8000", checked, "/ca.pem", with_secrets=True)
    expected = {one.name: one.value for one in every}
    text = {name: write(every) for name, write in client_env.FORMATS.items()}

    shell = subprocess.run(
        ["sh", "-c", f"{text['shell']}\nenv -0"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout.split("\0")
    assert expected.items() <= dict(line.split("=", 1) for line in shell if line).items()
    lines = [line for line in text["dotenv"].splitlines() if not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == expected
    for name in ("python", "notebook"):
        done = subprocess.run(
            ["python3", "-c", text[name] + "\nfor n in os.environ: print(n, os.environ[n])"],
            capture_output=True,
            text=True,
            check=True,
            env={},
        ).stdout
        assert expected.items() <= dict(line.split(" ", 1) for line in done.splitlines()).items()
    composed = yaml.safe_load(text["compose"])["environment"]
    assert {name: value.replace("$$", "$") for name, value in composed.items()} == expected


@pytest.mark.parametrize("name", client_env.FORMATS)
def test_every_variable_has_its_reason(name: str) -> None:
    checked = settings.check(DIRECT, "x")
    every = client_env.variables("http://h:8000", checked, "/ca.pem")
    text = client_env.FORMATS[name](every)
    assert all(f"# {one.reason}" in text for one in every)
    assert text.count("(replace the value)") == 2


def test_private_addresses_are_those_that_the_server_accepts() -> None:
    assert client_env.PRIVATE == doors.PRIVATE
