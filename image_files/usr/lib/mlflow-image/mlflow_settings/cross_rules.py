"""The rules between blocks of settings: what no block can check alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from mlflow_settings.blocks.artifact_store import local_directory
from mlflow_settings.blocks.backend_store import database_file
from mlflow_settings.blocks.block import Given
from mlflow_settings.blocks.environment import owned_fault, unknown_fault, variable_fault
from mlflow_settings.blocks.paths import overlap
from mlflow_settings.blocks.server import extra_variables, unknown_variables
from mlflow_settings.wording import Worded, shown

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
