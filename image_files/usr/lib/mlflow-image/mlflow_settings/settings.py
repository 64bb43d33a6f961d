"""The server settings: checked text in, one frozen Settings out, or every fault at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow_settings.blocks import environment, hosts
from mlflow_settings.document import Document, Fault, Faults, load
from mlflow_settings.wording import shown

SCHEMA_FILE = Path(__file__).with_name("schema.json")
# What cloud-init writes in place of a jinja variable that it does not know.
MISSING_JINJA_VARIABLE = "CI_MISSING_JINJA_VAR"


@dataclass(frozen=True)
class Server:
    """How the server listens and whom it answers; see schema.json for each key."""

    host: str = "0.0.0.0"  # noqa: S104 - the VM's network decides who reaches it; documented
    port: int = 8000
    workers: int = 2
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    job_execution: bool = False
    # A secret: kept out of repr, so that no traceback or log shows it.
    extra_environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class BackendStore:
    """Where experiments, runs and the model registry are kept."""

    sqlite: str = "/var/lib/mlflow/mlflow.db"


@dataclass(frozen=True)
class ArtifactStore:
    """Where artifacts are kept; the server hands them through."""

    local: str = "/var/lib/mlflow/artifacts"


@dataclass(frozen=True)
class Settings:
    """Everything that the machine's user decides about the server."""

    server: Server = field(default_factory=Server)
    backend_store: BackendStore = field(default_factory=BackendStore)
    artifact_store: ArtifactStore = field(default_factory=ArtifactStore)


def check(text: str, name: str, schema: Mapping[str, Any] | None = None) -> Settings:
    """The settings in YAML `text`; `name` is what messages call the file.

    schema: of the image that will read them, when it is not this one. Raises Faults with
    every fault that was found: the schema's first, and the rules between keys as well
    wherever the shape of the data allows asking.
    """
    document = load(text, name)
    if gap := template_gap(document, text):
        raise Faults([gap])
    faults = document.check(schema if schema is not None else own_schema())
    at_fault = {fault.path for fault in faults}
    faults += [fault for fault in _rule_faults(document) if fault.path not in at_fault]
    if faults:
        raise Faults(faults)
    return _settings(document.data)


def template_gap(document: Document, text: str) -> Fault | None:
    """The fault of a template variable that had no value when cloud-init filled the template."""
    if MISSING_JINJA_VARIABLE not in text:
        return None
    line = text[: text.index(MISSING_JINJA_VARIABLE)].count("\n") + 1
    message = f"{MISSING_JINJA_VARIABLE}: a template variable had no value"
    return Fault(document.name, (), line, "", message, "write the value, or correct its name")


@lru_cache(maxsize=1)
def own_schema() -> Mapping[str, Any]:
    """The JSON Schema (Draft 7) of this package."""
    schema: Mapping[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def _settings(data: Mapping[str, Any]) -> Settings:
    server = dict(data.get("server", {}))
    for key in ("allowed_hosts", "allowed_origins"):
        if key in server:
            server[key] = tuple(name.lower() for name in server[key])
    return Settings(
        server=Server(**_known(Server, server)),
        backend_store=BackendStore(**_known(BackendStore, data.get("backend_store", {}))),
        artifact_store=ArtifactStore(**_known(ArtifactStore, data.get("artifact_store", {}))),
    )


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Only what `kind` has: the schema of another image may know more keys than this code."""
    names = {entry.name for entry in fields(kind)}
    return {key: value for key, value in values.items() if key in names}


def _rule_faults(document: Document) -> Iterator[Fault]:
    """What a schema cannot say. Each value is looked at only when it has the right type."""
    server = _block(document.data, "server")
    for key, rule in (
        ("host", hosts.listening_address_fault),
        ("allowed_hosts", hosts.allowed_host_fault),
        ("allowed_origins", hosts.allowed_origin_fault),
    ):
        values = server.get(key)
        listed = list(enumerate(values)) if isinstance(values, list) else [(None, values)]
        for position, value in listed:
            if isinstance(value, str) and value and (worded := rule(value)):
                path = ("server", key) if position is None else ("server", key, position)
                yield document.fault(path, worded[0], value=shown(value), remedy=worded[1])
    extra = server.get("extra_environment")
    for variable, value in (extra if isinstance(extra, dict) else {}).items():
        if worded := environment.variable_fault(variable, value):
            path = ("server", "extra_environment", variable)
            yield document.fault(path, worded[0], remedy=worded[1])
    yield from _store_faults(document)


def _store_faults(document: Document) -> Iterator[Fault]:
    sqlite = _block(document.data, "backend_store").get("sqlite", BackendStore.sqlite)
    local = _block(document.data, "artifact_store").get("local", ArtifactStore.local)
    sound = True
    for path, value in (
        (("backend_store", "sqlite"), sqlite),
        (("artifact_store", "local"), local),
    ):
        worded = environment.state_path_fault(value) if isinstance(value, str) else None
        if worded:
            yield document.fault(path, worded[0], value=shown(value), remedy=worded[1])
        sound = sound and isinstance(value, str) and not worded
    if sound and environment.overlap(sqlite, local):
        # A database among the artifacts could be fetched through the artifact API.
        message = f'is "{local}", which overlaps backend_store.sqlite "{sqlite}"'
        yield document.fault(
            ("artifact_store", "local"),
            message,
            value=shown(local),
            remedy="keep the database outside of the artifacts",
        )


def _block(data: Any, key: str) -> Mapping[str, Any]:
    block = data.get(key) if isinstance(data, dict) else None
    return block if isinstance(block, dict) else {}
