"""The rules between blocks of settings: what no block can check alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from mlflow_settings.blocks.artifact_store import local_directory
from mlflow_settings.blocks.backend_store import database_file
from mlflow_settings.blocks.block import Given
from mlflow_settings.blocks.certificate import chain_fault, covers, decoded, names_of
from mlflow_settings.blocks.environment import owned_fault, unknown_fault, variable_fault
from mlflow_settings.blocks.hosts import allowed_host_fault
from mlflow_settings.blocks.paths import overlap
from mlflow_settings.blocks.server import (
    DEFAULT_PORT,
    HTTP,
    extra_variables,
    unknown_variables,
)
from mlflow_settings.blocks.tls import HTTPS, WAYS
from mlflow_settings.wording import Worded, shown

#: Lower ports are for privileged programs (ip(7), ip_unprivileged_port_start).
LOWEST = 1024
#: Variables that boto3 prefers to a file.
S3_CREDENTIALS = frozenset(
    {
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
        *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    }
)

#: Every block of a document as it was written, by name; a missing block is empty.
Blocks: TypeAlias = Mapping[str, Given]


def faults(blocks: Blocks, owned: Mapping[str, str]) -> Iterator[Worded]:
    """Every broken rule between blocks. owned: the variables of all blocks, as in Block.OWNED."""
    yield from _owned_variables(blocks, owned)
    yield from _unknown_variables(blocks, owned)
    yield from _database_among_artifacts(blocks)
    yield from _credentials_beside_s3(blocks)
    yield from _ports(blocks)
    yield from _names_of_the_certificate(blocks)


def _owned_variables(blocks: Blocks, owned: Mapping[str, str]) -> Iterator[Worded]:
    for name in extra_variables(blocks["server"]):
        if name in owned:
            reason = owned_fault(owned[name])
            path = ("server", "extra_environment", name)
            yield Worded(path, reason.message, "", reason.remedy)


def _unknown_variables(blocks: Blocks, owned: Mapping[str, str]) -> Iterator[Worded]:
    server = blocks["server"]
    if server.get("allow_unknown_variables") is True:
        return
    for name in unknown_variables(server):
        if name not in owned and not variable_fault(name, ""):
            reason = unknown_fault(name)
            path = ("server", "extra_environment", name)
            yield Worded(path, reason.message, "", reason.remedy)


def _database_among_artifacts(blocks: Blocks) -> Iterator[Worded]:
    """Clients could download a database among the artifacts through the artifact API."""
    database = database_file(blocks["backend_store"])
    directory = local_directory(blocks["artifact_store"])
    if database and directory and overlap(database, directory):
        message = f'is "{directory}", which overlaps backend_store.sqlite "{database}"'
        remedy = "keep the database outside the artifact directory"
        yield Worded(("artifact_store", "local"), message, shown(directory), remedy)


def _credentials_beside_s3(blocks: Blocks) -> Iterator[Worded]:
    """boto3 prefers these variables to the key in the settings, which is in no environment."""
    if not {"s3", "uri"} & set(blocks["artifact_store"]):
        return
    for name in extra_variables(blocks["server"]):
        if name in S3_CREDENTIALS:
            reason = owned_fault("artifact_store.s3")
            path = ("server", "extra_environment", name)
            yield Worded(path, reason.message, "", reason.remedy)


def _ports(blocks: Blocks) -> Iterator[Worded]:
    """The server has no right to a low port; nginx has it, and serves HTTP on port 80 only."""
    server, tls = blocks["server"], blocks["tls"]
    port, host = server.get("port"), server.get("host")
    has_tls = bool(set(tls) & set(WAYS))
    if port == HTTPS and not has_tls:
        remedy = "add the block tls, such as `tls: {self_signed: {}}`, and leave port out"
        yield Worded(("server", "port"), "is 443, the port of HTTPS, without tls", "443", remedy)
    elif isinstance(port, int) and port != HTTP and 0 < port < LOWEST:
        remedy = f"choose a port from {LOWEST} to 65535, or 80"
        yield Worded(("server", "port"), f"is {port}", str(port), remedy)
    if not has_tls:
        return
    own = tls.get("port", HTTPS)
    if own in (port if port is not None else DEFAULT_PORT, HTTP):
        message = f"is {own}, the port of HTTP" if own == HTTP else f"is {own}, as is server.port"
        yield Worded(("tls", "port"), message, str(own), "choose another port, such as 443")
    if isinstance(host, str) and host in ("127.0.0.1", "::1"):
        message = f"is {host}: nobody else could reach it by HTTPS"
        yield Worded(("server", "host"), message, host, 'write "0.0.0.0", or leave host out')


def _names_of_the_certificate(blocks: Blocks) -> Iterator[Worded]:
    """Clients refuse a server whose name is not in its certificate."""
    files = blocks["tls"].get("files")
    chain = files.get("certificate") if isinstance(files, dict) else None
    allowed = blocks["server"].get("allowed_hosts")
    if not isinstance(chain, str) or not isinstance(allowed, list) or chain_fault(chain):
        return
    names = names_of(decoded(chain))
    for position, host in enumerate(allowed):
        if not isinstance(host, str) or "*" in host or allowed_host_fault(host):
            continue
        name = re.sub(r":\d+$", "", host)
        if not covers(names, name):
            message = f"is {shown(name)}, which is not in the certificate: {', '.join(names)}"
            remedy = "correct it, or write a certificate with this name"
            yield Worded(("server", "allowed_hosts", position), message, name, remedy)
