"""User-data: the settings are found as cloud-init finds them, or a message gives the reason."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import pytest
import yaml

from mlflow_settings import settings, userdata
from mlflow_settings.document import Faults

READY_MADE = sorted((Path(__file__).parents[3] / "cloud-init").glob("*.yaml"))
SETTINGS = "schema_version: 1\nserver:\n  port: 8001\n"


def entry(content: str, rest: str = "") -> bytes:
    head = "#cloud-config\nwrite_files:\n  - path: /etc/mlflow/settings.yaml\n"
    return (head + '    permissions: "0600"\n' + rest + f"    content: {content}\n").encode()


def refusal(raw: bytes) -> str:
    """Every fault of the user-data, even if the settings were readable."""
    with pytest.raises(Faults) as refused:
        raise Faults(list(userdata.read(raw, "user-data").faults))
    assert refused.value.faults
    return str(refused.value)


def test_there_is_ready_made_user_data() -> None:
    assert "sqlite.yaml" in [path.name for path in READY_MADE]


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.name)
def test_ready_made_user_data_contains_valid_settings(path: Path) -> None:
    found = userdata.read(path.read_bytes(), path.name)
    assert found.settings is not None
    settings.check(found.settings, path.name)


def test_the_ready_made_sqlite_server_is_the_default_one() -> None:
    path = next(path for path in READY_MADE if path.name == "sqlite.yaml")
    text = userdata.read(path.read_bytes(), path.name).settings
    assert text is not None
    assert settings.check(text, "x") == settings.Settings()


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
        "",
    ],
)
def test_wrapped_settings_come_back_byte_for_byte(text: str) -> None:
    wrapped = userdata.wrap(text)
    assert userdata.read(wrapped, "user-data").settings == text
    written = yaml.safe_load(wrapped)["write_files"][0]
    assert (written["owner"], written["permissions"]) == ("root:root", "0600")
    encoded = written.get("encoding") == "b64"
    content = base64.b64decode(written["content"]).decode() if encoded else written["content"]
    assert content == text


def test_ordinary_settings_stay_readable_when_wrapped() -> None:
    assert b"port: 8001" in userdata.wrap(SETTINGS)


def test_a_line_of_the_settings_maps_to_a_line_of_the_user_data() -> None:
    raw = userdata.wrap("# first\nschema_version: 1\nserver:\n  prot: 1\n")
    found = userdata.read(raw, "user-data")
    assert found.settings is not None and found.line_offset is not None
    with pytest.raises(Faults) as refused:
        settings.check(found.settings, "user-data")
    line = refused.value.faults[0].line + found.line_offset
    assert "prot" in raw.decode().splitlines()[line - 1]


@pytest.mark.parametrize("encoding", ["b64", "base64", "gz+b64", "gzip+base64", "gz+base64"])
def test_encoded_settings_are_read(encoding: str) -> None:
    raw = SETTINGS.encode()
    content = base64.b64encode(gzip.compress(raw) if "gz" in encoding else raw).decode()
    found = userdata.read(entry(content, f"    encoding: {encoding}\n"), "user-data")
    assert found.settings == SETTINGS
    assert found.line_offset is None


def test_a_small_file_that_unpacks_to_gigabytes_is_truncated() -> None:
    content = base64.b64encode(gzip.compress(b"#" * 20_000_000)).decode()
    found = userdata.read(entry(content, "    encoding: gz+b64\n"), "user-data")
    assert found.settings is not None
    assert len(found.settings) < 300_000
    with pytest.raises(Faults, match="bytes long"):
        settings.check(found.settings, "settings.yaml")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (gzip.compress(b"#cloud-config\n"), "compressed"),
        (b"## template: jinja\n#cloud-config\n", "Jinja"),
        (b'Content-Type: multipart/mixed; boundary="x"\n', "MIME"),
        (b"MIME-Version: 1.0\n", "MIME"),
        (b"#!/bin/sh\necho\n", "script"),
    ],
)
def test_user_data_that_cannot_be_checked_gives_the_reason(raw: bytes, reason: str) -> None:
    found = userdata.read(raw, "user-data")
    assert reason in found.unchecked
    assert found.settings is None


def test_user_data_without_settings_is_valid() -> None:
    found = userdata.read(b"#cloud-config\npackages: [jq]\n", "user-data")
    assert found == userdata.UserData()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"schema_version: 1\n", ["user-data:1", "not cloud-config", "--settings"]),
        (b"# cloud-config\n", ["user-data:1", "not cloud-config"]),
        (b"#cloud-config\n- a\n", ["not a block of keys"]),
        (b"#cloud-config\na: [\n", ["not YAML"]),
        (b"#cloud-config\na: \xff\n", ["user-data:2", "UTF-8"]),
        (b"#cloud-config\nhostname: CI_MISSING_JINJA_VAR/x\n", ["user-data:2", "template"]),
        (entry("|\n      a: 1").replace(b'"0600"', b'"0644"'), ["permissions", '"0600"']),
        (entry("|\n      a: 1").replace(b'    permissions: "0600"\n', b""), ["permissions"]),
        (entry("|\n      a: 1", "    append: true\n"), ["append"]),
        (entry("|\n      a: 1", "    defer: true\n"), ["defer", "too late"]),
        (entry("5"), ["content", "not text"]),
        (entry("x", "    encoding: rot13\n"), ["rot13", "b64"]),
        (entry("eA", "    encoding: gz+b64\n"), ["cannot be decoded"]),
    ],
)
def test_user_data_with_errors_is_refused(raw: bytes, words: list[str]) -> None:
    message = refusal(raw)
    assert [word for word in words if word not in message] == []


def test_the_settings_written_twice_are_refused() -> None:
    twice = entry("|\n      a: 1") + entry("|\n      a: 1").split(b"write_files:\n")[1]
    assert "second time" in refusal(twice)


@pytest.mark.parametrize(
    "path",
    ["/etc/mlflow//settings.yaml", "/etc/./mlflow/settings.yaml", "//etc/mlflow/settings.yaml"],
)
def test_the_settings_are_found_under_every_spelling_of_their_path(path: str) -> None:
    raw = userdata.wrap("schema_version: 1\n").replace(
        userdata.SETTINGS_PATH.encode(), path.encode()
    )
    assert userdata.read(raw, "user-data").settings == "schema_version: 1\n"
    twice = raw + userdata.wrap("schema_version: 1\n").partition(b"write_files:\n")[2]
    assert "second time" in refusal(twice)
