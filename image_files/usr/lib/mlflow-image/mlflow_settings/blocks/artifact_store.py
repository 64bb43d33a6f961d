"""The block `artifact_store`: where artifacts are stored; clients reach them through the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlflow_settings.blocks.block import Block, Given, text_faults
from mlflow_settings.blocks.paths import state_path_fault, valid_state_path
from mlflow_settings.wording import Worded

#: The sources that a model version may have: all lead back to this server. The last ones are
#: those that MLflow itself gives to prompts.
OWN_SOURCES = r"^(mlflow-artifacts|models|runs):/|^(prompt-template|dummy-source)$"


@dataclass(frozen=True)
class ArtifactStore(Block):
    """Where artifacts are stored; the server proxies them to its clients."""

    local: str = "/var/lib/mlflow/artifacts"

    OWNED: ClassVar[Mapping[str, str]] = {
        "AWS_EC2_METADATA_DISABLED": "artifact_store",
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "artifact_store",
        "MLFLOW_ARTIFACTS_DESTINATION": "artifact_store",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "artifact_store",
        "MLFLOW_SERVE_ARTIFACTS": "artifact_store",
    }

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rule for the directory's path."""
        yield from text_faults(given, "local", state_path_fault)

    def environment(self, addresses: Sequence[str]) -> Mapping[str, str]:
        """The destination, what makes the server proxy it, and what keeps it to this store."""
        return {
            # A client that names s3://... must not make boto3 use the machine's cloud role.
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": OWN_SOURCES,
            "MLFLOW_SERVE_ARTIFACTS": "true",
            "MLFLOW_ARTIFACTS_DESTINATION": self.local,
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow-artifacts:/",
        }


def local_directory(given: Given) -> str | None:
    """The directory that a block names; None when its path breaks the rule."""
    return valid_state_path(given, "local", ArtifactStore.local)
