"""The connection to a cluster: one for each address, process and configuration."""

from __future__ import annotations

import ctypes
import os
import posixpath
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from hdfs_native import Client
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

SCHEMES = ("hdfs", "viewfs")
#: MLflow's variables -> the argument of hdfs-native; it reads Hadoop's and Kerberos's by itself.
ARGUMENTS = {
    "MLFLOW_KERBEROS_USER": "kerberos_principal",
    "MLFLOW_KERBEROS_TICKET_CACHE": "kerberos_cache",
}
#: The library's own patience of some three minutes is cut short: repository.py waits, and says why.
CONFIGURATION = {
    "dfs.client.failover.max.attempts": "3",
    "dfs.client.failover.sleep.base.millis": "100",
    "dfs.client.failover.sleep.max.millis": "500",
}
#: What a connection depends on.
VARIABLES = (
    *("HADOOP_CONF_DIR", "HADOOP_USER_NAME", "HADOOP_TOKEN_FILE_LOCATION"),
    *("KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME", *ARGUMENTS),
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


def client(address: str) -> Any:
    """The client for an address, made at the first call, which starts threads.

    A process that was forked gets one of its own: threads and connections cannot be shared.
    Raises MlflowException when the library is too old for what a variable asks.
    """
    key = (os.getpid(), address, tuple(os.environ.get(name) for name in VARIABLES))
    with _lock:
        if key not in _clients:
            _clients[key] = _made(address)
        return _clients[key]


def _made(address: str) -> Any:
    asked = {name: os.environ[name] for name in ARGUMENTS if os.environ.get(name)}
    arguments = {ARGUMENTS[name]: value for name, value in asked.items()}
    try:
        # The library itself finds KRB5_CLIENT_KTNAME, and then says more of a fault.
        return Client(address or None, CONFIGURATION, **arguments)
    except TypeError as error:
        raise MlflowException(
            f"{' and '.join(asked)}: needs hdfs-native 0.14, which Python 3.9 does not have; set "
            "KRB5CCNAME to a ticket, or KRB5_CLIENT_KTNAME to a keytab with one principal",
            error_code=INVALID_PARAMETER_VALUE,
        ) from error


def _start_anew_after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it
    for inherited in _clients.values():
        # Never freed: it would wait for its threads, which this process does not have.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited.inner))


if hasattr(os, "register_at_fork"):  # on Unix
    os.register_at_fork(after_in_child=_start_anew_after_fork)
