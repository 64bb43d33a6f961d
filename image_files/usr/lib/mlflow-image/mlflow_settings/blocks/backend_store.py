"""The block `backend_store`: where experiments, runs and the model registry are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from mlflow_settings.blocks import postgresql
from mlflow_settings.blocks.block import (
    Block,
    Given,
    Machine,
    RenderedFile,
    below,
    only_one_of,
    text_faults,
)
from mlflow_settings.blocks.paths import state_path_fault, valid_state_path
from mlflow_settings.blocks.postgresql import Postgresql
from mlflow_settings.wording import Reason, Worded

SQLITE = "sqlite:///"
DEFAULT = "/var/lib/mlflow/mlflow.db"


@dataclass(frozen=True)
class BackendStore(Block):
    """Where experiments, runs and the model registry are stored: a file, or else a database.

    sqlite: the file's path; "" when the store is PostgreSQL.
    """

    sqlite: str = DEFAULT
    postgresql: Postgresql | None = None

    OWNED: ClassVar[Mapping[str, str]] = {
        "MLFLOW_BACKEND_STORE_URI": "backend_store",
        "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "backend_store",
        "MLFLOW_REGISTRY_STORE_URI": "backend_store",
        "MLFLOW_REGISTRY_URI": "backend_store",
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "backend_store.postgresql.pool",
        "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": "backend_store.postgresql.pool",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "backend_store.postgresql.pool",
        "MLFLOW_TRACKING_URI": "backend_store",
        "PGPASSFILE": "backend_store.postgresql.password",
    }

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rules for the file's path, the database's parts and the URI."""
        yield from only_one_of(given, ("sqlite", "postgresql", "uri"))
        yield from text_faults(given, "sqlite", state_path_fault)
        yield from text_faults(given, "uri", _uri_fault)
        parts = given.get("postgresql")
        found = postgresql.faults(parts if isinstance(parts, dict) else {})
        yield from below("postgresql", found)

    def environment(self, machine: Machine) -> Mapping[str, str]:
        """The store's URI; the registry uses the same store by MLflow's default."""
        if self.postgresql:
            return self.postgresql.environment()
        return {"MLFLOW_BACKEND_STORE_URI": SQLITE + self.sqlite}

    @property
    def accounts(self) -> str:
        """The path of the file for the users of `auth`, beside the other one; "": PostgreSQL."""
        return "" if self.postgresql else str(PurePosixPath(self.sqlite).with_name("accounts.db"))

    @property
    def accounts_uri(self) -> str:
        """For the users of `auth`: the same PostgreSQL, or a file."""
        return self.postgresql.uri if self.postgresql else SQLITE + self.accounts

    def run_files(self) -> Sequence[RenderedFile]:
        """The password and the CA certificate of PostgreSQL."""
        return tuple(self.postgresql.run_files()) if self.postgresql else ()

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> BackendStore:
        """A URI becomes its parts."""
        parts = parts_of(given)
        if "postgresql" in parts:
            return cls("", Postgresql.from_given(parts["postgresql"]))
        return cls(parts.get("sqlite", DEFAULT))


def parts_of(given: Given) -> Mapping[str, Any]:
    """A block in which a sound URI is replaced by what it stands for."""
    uri = given.get("uri")
    if not isinstance(uri, str):
        return given
    if uri.startswith(SQLITE):
        return {"sqlite": uri.removeprefix(SQLITE)}
    parts = postgresql.parts_of_uri(uri)
    return {} if isinstance(parts, Reason) else {"postgresql": parts}


def database_file(given: Given) -> str | None:
    """The SQLite file that a block names; None when there is none or its path breaks the rule."""
    parts = parts_of(given)
    return None if "postgresql" in parts else valid_state_path(parts, "sqlite", DEFAULT)


def _uri_fault(uri: str) -> Reason | None:
    if uri.startswith(SQLITE):
        return state_path_fault(uri.removeprefix(SQLITE))
    parts = postgresql.parts_of_uri(uri)
    if isinstance(parts, Reason):
        return parts
    worded = next(postgresql.faults(parts), None)
    return Reason(f"{worded.path[0]}: {worded.message}", worded.remedy) if worded else None
