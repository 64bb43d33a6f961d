"""The block `backend_store`: where experiments, runs and the model registry are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlflow_settings.blocks.block import Block, Given, text_faults
from mlflow_settings.blocks.paths import state_path_fault, valid_state_path
from mlflow_settings.wording import Worded


@dataclass(frozen=True)
class BackendStore(Block):
    """Where experiments, runs and the model registry are stored."""

    sqlite: str = "/var/lib/mlflow/mlflow.db"

    OWNED: ClassVar[Mapping[str, str]] = {
        "MLFLOW_BACKEND_STORE_URI": "backend_store",
        "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "backend_store",
        "MLFLOW_REGISTRY_STORE_URI": "backend_store",
        "MLFLOW_REGISTRY_URI": "backend_store",
        "MLFLOW_TRACKING_URI": "backend_store",
    }

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rule for the database file's path."""
        yield from text_faults(given, "sqlite", state_path_fault)

    def environment(self, addresses: Sequence[str]) -> Mapping[str, str]:
        """The store's URI; the registry uses the same store by MLflow's default."""
        return {"MLFLOW_BACKEND_STORE_URI": "sqlite:///" + self.sqlite}


def database_file(given: Given) -> str | None:
    """The SQLite file that a block names; None when its path breaks the rule."""
    return valid_state_path(given, "sqlite", BackendStore.sqlite)
