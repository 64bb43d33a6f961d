"""MLflow artifacts in HDFS, with Kerberos and without a JVM; see repository.py."""

from __future__ import annotations

from typing import Any


def artifact_repository(*positional: Any, **named: Any) -> Any:
    """The repository of an `hdfs:` or `viewfs:` address: what MLflow's entry point names.

    Its module is imported at the first use only. It imports MLflow's registry, which reads the
    entry points: named by them, it would be asked for its class before it has one.
    """
    from mlflow_hdfs.repository import HdfsArtifactRepository

    return HdfsArtifactRepository(*positional, **named)
