"""The block `artifact_store`: where artifacts are stored; clients reach them through the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlflow_settings.blocks import hdfs, s3
from mlflow_settings.blocks.block import (
    Block,
    Given,
    Machine,
    RenderedFile,
    below,
    only_one_of,
    text_faults,
)
from mlflow_settings.blocks.hdfs import VARIABLES as HADOOP_VARIABLES
from mlflow_settings.blocks.hdfs import Hdfs
from mlflow_settings.blocks.paths import state_path_fault, valid_state_path
from mlflow_settings.blocks.s3 import S3
from mlflow_settings.wording import Worded

DEFAULT = "/var/lib/mlflow/artifacts"
#: The sources that a model version may have: these lead back to this server. The last ones are
#: those that MLflow itself gives to prompts.
OWN_SOURCES = r"^(mlflow-artifacts|models|runs):/|^(prompt-template|dummy-source)$"


@dataclass(frozen=True)
class ArtifactStore(Block):
    """Where artifacts are stored: a directory, or else a bucket or a folder of a cluster.

    local: the directory's path; "" when the store is another one.
    """

    local: str = DEFAULT
    s3: S3 | None = None
    hdfs: Hdfs | None = None

    OWNED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (
                "AWS_EC2_METADATA_DISABLED",
                "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX",
                "MLFLOW_ARTIFACTS_DESTINATION",
                "MLFLOW_DEFAULT_ARTIFACT_ROOT",
                "MLFLOW_IMAGE_LOCATIONS",
                "MLFLOW_IMAGE_CLIENTS_REACH_STORE",
                "MLFLOW_SERVE_ARTIFACTS",
            ),
            "artifact_store",
        ),
        **dict.fromkeys(
            (
                "AWS_CA_BUNDLE",
                "AWS_DEFAULT_REGION",
                "AWS_REQUEST_CHECKSUM_CALCULATION",
                "AWS_RESPONSE_CHECKSUM_VALIDATION",
                "AWS_SHARED_CREDENTIALS_FILE",
                "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
                "MLFLOW_S3_ENDPOINT_URL",
            ),
            "artifact_store.s3",
        ),
        **dict.fromkeys(HADOOP_VARIABLES, "artifact_store.hdfs"),
    }

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rules for the directory's path, the bucket, the cluster and the URI."""
        yield from only_one_of(given, ("local", "s3", "hdfs", "uri"))
        yield from text_faults(given, "local", state_path_fault)
        yield from text_faults(given, "uri", s3.uri_fault)
        for name, rules in (("s3", s3.faults), ("hdfs", hdfs.faults)):
            parts = given.get(name)
            yield from below(name, rules(parts if isinstance(parts, dict) else {}))

    def environment(self, machine: Machine) -> Mapping[str, str]:
        """The destination, what makes the server proxy it, and what keeps it to this store."""
        store = self.remote
        locations = store.locations if store else (self.local,)
        proxied = store is None or store.access == "proxied"
        direct = self.s3 is not None and self.s3.clients_reach_endpoint
        return {
            # A client that names s3://... must not make boto3 use the machine's cloud role.
            "AWS_EC2_METADATA_DISABLED": "true",
            **(store.environment() if store else {}),
            "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": self._sources(),
            "MLFLOW_IMAGE_LOCATIONS": " ".join(locations),
            "MLFLOW_IMAGE_CLIENTS_REACH_STORE": str(direct).lower(),
            # Also with direct access, for experiments that were made before.
            "MLFLOW_SERVE_ARTIFACTS": "true",
            "MLFLOW_ARTIFACTS_DESTINATION": locations[0],
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow-artifacts:/" if proxied else locations[0],
        }

    @property
    def remote(self) -> S3 | Hdfs | None:
        """The store that is not a directory of the machine."""
        return self.s3 or self.hdfs

    @property
    def uses_role(self) -> bool:
        """Whether the server needs the machine's role in the cloud."""
        return self.s3 is not None and self.s3.uses_role

    def run_files(self) -> Sequence[RenderedFile]:
        """What the store's libraries read: keys, certificates, Hadoop's and Kerberos' files."""
        return tuple(self.remote.run_files()) if self.remote else ()

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> ArtifactStore:
        """A URI becomes its parts."""
        if "uri" in given:
            return cls("", S3.from_given(s3.parts_of_uri(given["uri"])))
        if "s3" in given:
            return cls("", S3.from_given(given["s3"]))
        if "hdfs" in given:
            return cls("", hdfs=Hdfs.from_given(given["hdfs"]))
        return cls(given.get("local", DEFAULT))

    def _sources(self) -> str:
        places = self.remote.locations if self.remote else ()
        return OWN_SOURCES + "".join(f"|^{re.escape(place)}(/|$)" for place in places)


def local_directory(given: Given) -> str | None:
    """The directory that a block names; None when there is none or its path breaks the rule."""
    return None if {"s3", "hdfs", "uri"} & set(given) else valid_state_path(given, "local", DEFAULT)
