"""The server settings: checks a YAML text and returns one frozen Settings, or every fault."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from mlflow_settings import cross_rules, placeholders
from mlflow_settings.blocks import sources
from mlflow_settings.blocks.artifact_store import ArtifactStore
from mlflow_settings.blocks.auth import Auth
from mlflow_settings.blocks.backend_store import BackendStore
from mlflow_settings.blocks.block import Block, Given, below
from mlflow_settings.blocks.server import Server
from mlflow_settings.blocks.tls import USUAL_PORTS, Tls
from mlflow_settings.document import Document, Fault, Faults, load
from mlflow_settings.wording import Worded, public

SCHEMA_FILE = Path(__file__).with_name("schema.json")
# cloud-init writes this in place of an unknown Jinja variable.
MISSING_JINJA_VARIABLE = "CI_MISSING_JINJA_VAR"


@dataclass(frozen=True)
class Settings:
    """Everything that the operator decides about the server.

    Each field is a block of the document. This is the only list of them: a new block is a
    module of blocks/ and a field here, and its keys in schema.json.
    """

    server: Server = field(default_factory=Server)
    backend_store: BackendStore = field(default_factory=BackendStore)
    artifact_store: ArtifactStore = field(default_factory=ArtifactStore)
    auth: Auth = field(default_factory=Auth)
    tls: Tls = field(default_factory=Tls)

    @property
    def scheme(self) -> str:
        """How clients reach the server: http or https."""
        return "https" if self.tls.way else "http"

    @property
    def port(self) -> int:
        """The port by which clients reach the server."""
        return self.tls.port if self.tls.way else self.server.port

    @property
    def port_in_url(self) -> str:
        """The port as the end of a URL's host; "" for the scheme's own."""
        return "" if self.port == USUAL_PORTS[self.scheme] else f":{self.port}"

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in the order of the fields."""
        return tuple(getattr(self, name) for name in BLOCKS)


#: The class of every block, by its key in the document.
BLOCKS: Mapping[str, type[Block]] = {
    entry.name: cast("type[Block]", entry.default_factory) for entry in fields(Settings)
}
#: The environment variables that blocks own, each with the setting to use instead.
OWNED: Mapping[str, str] = {
    variable: setting for kind in BLOCKS.values() for variable, setting in kind.OWNED.items()
}


def check(
    text: str,
    name: str,
    schema: Mapping[str, Any] | None = None,
    read: sources.Read | None = None,
    *,
    take_expired: bool = False,
) -> Settings:
    """The settings in YAML `text`; `name` is the file's name in messages.

    schema: the schema of the image that will read the settings; this package's by default.
    read: reads the files that settings name (from_file); None leaves them unread. take_expired: the
    server's certificate may have expired, because the server was up with these settings before.
    Raises Faults with every fault: those of the schema, of each block, and between blocks.
    """
    document = _loaded(text, name)
    if gap := template_gap(document, text):
        raise Faults([gap])
    # A test checks this package's own schema.
    own = schema is None
    faults = document.check(own_schema() if schema is None else schema, is_valid=own)
    reported = {fault.path for fault in faults}
    for fault in _rule_faults(document):
        # One message for each path is enough: the first one is the more basic.
        if fault.path not in reported:
            reported.add(fault.path)
            faults.append(fault)
    if faults:
        raise Faults(faults)
    found = _settings(document.data)
    wrong: list[Worded] = []
    if read is not None:
        found, wrong = sources.read_all(found, read)
    if not wrong and not take_expired and (expired := _expiry(found)):
        wrong.append(expired)
    if wrong:
        raise Faults(document.fault(one.path, one.message, remedy=one.remedy) for one in wrong)
    return found


def _expiry(found: Settings) -> Worded | None:
    reason = found.tls.files.expiry_fault() if found.tls.files else None
    if not reason:
        return None
    return Worded(("tls", "files", "certificate"), reason.message, "", reason.remedy)


def _loaded(text: str, name: str) -> Document:
    """The document; raises Faults that name no key below a secret, such as `{S3cret}`."""
    try:
        return load(text, name)
    except Faults as refused:
        schema = own_schema()
        faults = [replace(one, path=public(one.path, schema)) for one in refused.faults]
        raise Faults(faults) from None


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
    blocks: dict[str, Any] = {
        name: kind.from_given(data.get(name, {})) for name, kind in BLOCKS.items()
    }
    return Settings(**blocks)


def _rule_faults(document: Document) -> Iterator[Fault]:
    """The faults that a schema cannot find: of each value, each block, then between blocks."""
    given = {name: _given(document.data, name) for name in BLOCKS}
    found = itertools.chain(
        placeholders.faults(document.data, own_schema()),
        *(below(name, kind.faults(given[name])) for name, kind in BLOCKS.items()),
        cross_rules.faults(given, OWNED),
    )
    for worded in found:
        yield document.fault(worded.path, worded.message, value=worded.value, remedy=worded.remedy)


def _given(data: Any, name: str) -> Given:
    block = data.get(name) if isinstance(data, dict) else None
    return block if isinstance(block, dict) else {}
