"""Settings: the schema, the rules and the code agree."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlflow_settings import render, settings
from mlflow_settings.blocks import environment, hosts
from mlflow_settings.blocks.server import Server
from mlflow_settings.document import Faults


def every_property(schema: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    found = {}
    for key, below in schema.get("properties", {}).items():
        found[f"{path}{key}"] = below
        found |= every_property(below, f"{path}{key}.")
    return found


def test_the_schema_is_valid_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(settings.own_schema())


def test_every_key_is_described_and_every_block_is_closed() -> None:
    properties = every_property(dict(settings.own_schema()))
    assert properties
    assert [name for name, below in properties.items() if not below.get("description")] == []
    blocks = [below for below in properties.values() if "properties" in below]
    assert all(block["additionalProperties"] is False for block in blocks)


SMALLEST = """\
schema_version: 1
backend_store: {postgresql: {host: db.example.com, database: mlflow, user: me, password: pw}}
artifact_store: {s3: {bucket: runs, region: eu-central-1}}
auth: {basic: {}}
tls: {self_signed: {}}
"""
#: A second one, for the keys that exclude those of the first.
OTHER = """\
schema_version: 1
artifact_store: {hdfs: {namenode: nn.example.com, path: /mlflow, user: mlflow}}
tls: {acme: {email: ops@example.com, names: [mlflow.example.com]}}
"""


def test_the_schema_has_the_same_defaults_as_the_code() -> None:
    stores, other = (dataclasses.asdict(settings.check(text, "x")) for text in (SMALLEST, OTHER))
    for name, below in every_property(dict(settings.own_schema())).items():
        if below.get("default") in (None, {}):
            continue
        given = other if name.startswith(("tls.acme.", "artifact_store.hdfs.")) else stores
        found: Any = given if name.count(".") > 1 else dataclasses.asdict(settings.Settings())
        for key in name.split("."):
            found = found[key]
        assert json.loads(json.dumps(found)) == below["default"], name


def test_an_empty_host_is_a_fault_and_not_a_crash() -> None:
    with pytest.raises(Faults, match=r"server\.host: is \"\", not an IP address"):
        settings.check("schema_version: 1\nserver: {host: ''}\n", "x")


def test_the_schema_of_an_older_image_decides() -> None:
    older = json.loads(json.dumps(settings.own_schema()))
    del older["properties"]["server"]["properties"]["workers"]
    text = "schema_version: 1\nserver: {workers: 3}\n"
    assert settings.check(text, "x").server.workers == 3
    with pytest.raises(Faults, match=r"server\.workers: unknown key"):
        settings.check(text, "x", older)


def test_the_keys_of_a_newer_image_are_accepted() -> None:
    newer = json.loads(json.dumps(settings.own_schema()))
    newer["properties"]["server"]["properties"]["colour"] = {"type": "string"}
    assert settings.check("schema_version: 1\nserver: {colour: red}\n", "x", newer)


def test_secrets_are_not_in_the_repr() -> None:
    text = "schema_version: 1\nserver: {extra_environment: {OPENAI_API_KEY: hush}}\n"
    checked = settings.check(text, "x")
    assert checked.server.extra_environment == {"OPENAI_API_KEY": "hush"}
    assert "hush" not in repr(checked) + repr(render.render(checked))


def test_extra_variables_never_override_a_setting() -> None:
    checked = settings.Settings(server=Server(extra_environment={"MLFLOW_PORT": "1"}))
    assert render.environment(checked)["MLFLOW_PORT"] == "8000"


def test_every_known_variable_of_mlflow_exists_in_the_installed_one() -> None:
    found = importlib.util.find_spec("mlflow")
    assert found
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0], "environment_variables.py").read_text()
    own = [name for name in environment.KNOWN if name.startswith("MLFLOW_")]
    assert [name for name in own if f"\n{name} = " not in source] == []


def test_a_listed_name_adds_to_the_defaults_and_allows_its_own_pages() -> None:
    entries = hosts.host_entries(["mlflow.example.com"])
    assert entries[: len(hosts.DEFAULT_ALLOWED_HOSTS)] == list(hosts.DEFAULT_ALLOWED_HOSTS)
    assert entries[len(hosts.DEFAULT_ALLOWED_HOSTS) :] == [
        "mlflow.example.com",
        "mlflow.example.com:*",
    ]
    assert "http://mlflow.example.com:8000" in hosts.origin_entries(
        ["mlflow.example.com"], [], 8000
    )


def test_a_star_allows_every_host_but_no_foreign_page() -> None:
    assert hosts.host_entries(["*"])[-1] == "*"
    assert hosts.origin_entries(["*", "*.example.com"], [], 8000) == []


def test_the_url_for_people_is_reachable() -> None:
    def url(host: str, *addresses: str) -> str:
        return render.url(settings.Settings(server=Server(host=host)), addresses)

    everywhere = Server.host
    assert url(everywhere, "10.0.2.15", "2001:db8::7") == "http://10.0.2.15:8000"
    assert url(everywhere) == "http://127.0.0.1:8000"
    assert url("::0", "2001:db8::7") == "http://[2001:db8::7]:8000"
    assert url("127.0.0.1", "10.0.2.15") == "http://127.0.0.1:8000"


def test_a_boot_does_not_import_what_only_some_calls_need() -> None:
    code = (
        "import sys; import mlflow_settings.configure; "
        "print(sorted({'argparse', 'difflib', 'jsonschema'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
