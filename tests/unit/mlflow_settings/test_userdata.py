"""Settings are wrapped as user-data byte for byte, and their path is known in every spelling."""

from __future__ import annotations

import base64
import re
import textwrap
from pathlib import Path

import pytest
import yaml

from mlflow_settings import placeholders, settings, userdata
from mlflow_settings.document import Faults
from tests.unit import samples

PEM = yaml.safe_load(
    (Path(__file__).parent / "cases" / "tls-files" / "settings.yaml").read_text(encoding="utf-8")
)["tls"]["files"]
READY_MADE = sorted((Path(__file__).parents[3] / "cloud-init").glob("*.yaml"))
SETTINGS = "schema_version: 1\nserver:\n  port: 8001\n"


def test_there_is_ready_made_user_data() -> None:
    assert "sqlite.yaml" in [path.name for path in READY_MADE]


def test_the_ready_made_sqlite_server_is_the_default_one() -> None:
    path = next(path for path in READY_MADE if path.name == "sqlite.yaml")
    text = userdata.unwrap(path.read_bytes())
    assert settings.check(text, "x") == settings.Settings()


#: Values for those in capitals.
FILLED = {
    "ACCESS_KEY_ID": "key",
    "ADMIN_PASSWORD": "of the administrator",
    "BALANCER_ADDRESS": "10.0.0.5",
    "BALANCER_PASSWORD": "of the balancer",
    "BUCKET_NAME": "runs",
    "SERVER_NAME": "mlflow.example.com",
    "OPERATOR_EMAIL": "ops@example.com",
    "DATABASE_HOST": "db.example.com",
    "DATABASE_NAME": "mlflow",
    "DATABASE_PASSWORD": "p@ss:w/rd",
    "DATABASE_USER": "me",
    "KDC_HOST": "kdc.example.com",
    "KERBEROS_PRINCIPAL": samples.KEYTAB_PRINCIPAL,
    "KERBEROS_REALM": "EXAMPLE.COM",
    "KEYTAB_AS_BASE64": samples.KEYTAB,
    "NAMENODE_HOST": "nn.example.com",
    "SECRET_ACCESS_KEY": "secret",
    "SERVER_CERTIFICATE": PEM["certificate"],
    "SERVER_KEY": PEM["key"],
    "STORE_ENDPOINT": "https://storage.example.com",
    "STORE_REGION": "eu-central-1",
}


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_ready_made_user_data_is_valid_once_the_values_in_capitals_are_replaced(path: Path) -> None:
    text = userdata.unwrap(path.read_bytes())
    found = {name for name in placeholders.NAMES if re.search(rf"\b{name}\b", text)}
    if found:
        with pytest.raises(Faults) as refused:
            settings.check(text, "x")
        assert {fault.value for fault in refused.value.faults} == found
    for name in placeholders.NAMES:
        text = replaced(text, name, FILLED[name])
    assert settings.check(text, "x")


def replaced(text: str, name: str, value: str) -> str:
    """A value of several lines is indented as its first one, as YAML's block wants it."""
    found = re.search(rf"^( *){name}$", text, re.MULTILINE)
    margin = found[1] if found else ""
    return re.sub(rf"\b{name}\b", textwrap.indent(value.strip(), margin).strip(), text)


@pytest.mark.parametrize(
    "text",
    [
        SETTINGS,
        "# a comment first\n\n" + SETTINGS,
        SETTINGS + "\n\n",
        SETTINGS.rstrip(),
        "  schema_version: 1\n",
        SETTINGS + "  # non-ASCII: äöü ✓\n",
        "schema_version: 1\nserver: {host: '0.0.0.0'}\r\n",
        "\tbroken",
        "a: \x00\n",
        "",
    ],
)
def test_wrapped_settings_come_back_byte_for_byte(text: str) -> None:
    wrapped = userdata.wrap(text)
    assert userdata.unwrap(wrapped) == text
    written = yaml.safe_load(wrapped)["write_files"][0]
    assert (written["owner"], written["permissions"]) == ("root:root", "0600")
    encoded = written.get("encoding") == "b64"
    content = base64.b64decode(written["content"]).decode() if encoded else written["content"]
    assert content == text


def test_ordinary_settings_stay_readable_when_wrapped() -> None:
    assert b"port: 8001" in userdata.wrap(SETTINGS)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/mlflow/settings.yaml",
        "/etc/mlflow//settings.yaml",
        "/etc/./mlflow/settings.yaml",
        "//etc/mlflow/settings.yaml",
        "etc/mlflow/settings.yaml",
        "/proc/self/root/etc/mlflow/settings.yaml",
        "/proc/1/root/etc/mlflow/settings.yaml",
    ],
)
def test_the_settings_path_is_known_in_every_spelling(path: str) -> None:
    assert userdata.is_settings_path(path)


@pytest.mark.parametrize("path", ["/etc/mlflow/settings.yml", "/srv/etc/mlflow/settings.yaml", 5])
def test_other_paths_are_not_the_settings(path: object) -> None:
    assert not userdata.is_settings_path(path)
