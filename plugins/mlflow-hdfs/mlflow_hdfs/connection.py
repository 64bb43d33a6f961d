"""The connection to a cluster: one for each address, process and configuration."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from hdfs_native import Client
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

SCHEMES = ("hdfs", "viewfs")
#: What a connection depends on.
VARIABLES = (
    *("HADOOP_CONF_DIR", "HADOOP_USER_NAME", "KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"),
    *("MLFLOW_KERBEROS_USER", "MLFLOW_KERBEROS_TICKET_CACHE", "HADOOP_TOKEN_FILE_LOCATION"),
)
_lock = threading.Lock()
_clients: dict[object, Any] = {}


def parts(uri: str) -> tuple[str, str]:
    """An address without its path ("" for the cluster's default), and the path.

    Raises MlflowException when it is no absolute address of HDFS.
    """
    split = urlsplit(uri)
    if split.scheme not in SCHEMES or not split.path.startswith("/") or split.query:
        raise MlflowException(
            f"{uri}: is not an address in HDFS; write hdfs://NAMENODE:8020/FOLDER",
            error_code=INVALID_PARAMETER_VALUE,
        )
    address = f"{split.scheme}://{split.netloc}" if split.netloc else ""
    # MLflow quotes blanks and other letters than ASCII where it puts an address together.
    return address, posixpath.normpath(unquote(split.path))


def client(address: str, environment: Mapping[str, str] = os.environ) -> Any:
    """The client for an address; the cluster is asked at the first call only.

    A process that was forked gets one of its own: connections cannot be shared.
    """
    key = (os.getpid(), address, tuple(environment.get(name) for name in VARIABLES))
    with _lock:
        if key not in _clients:
            _clients[key] = Client(
                address or None,
                config_dir=environment.get("HADOOP_CONF_DIR"),
                # The library itself finds KRB5_CLIENT_KTNAME, and then says more of a fault.
                kerberos_principal=environment.get("MLFLOW_KERBEROS_USER"),
                kerberos_cache=environment.get("MLFLOW_KERBEROS_TICKET_CACHE"),
            )
        return _clients[key]
