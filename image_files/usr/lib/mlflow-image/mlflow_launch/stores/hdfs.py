"""What is wrong with a folder in HDFS: one small file is written, read and deleted there.

The causes are those of the plugin (plugins/mlflow-hdfs); here are the remedies for settings.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow_launch import mlflow_names
from mlflow_launch.stores import reach

SCHEME = "hdfs://"
PROBE_FOLDER = "mlflow-image-probe"
_BLOCK = "artifact_store.hdfs"
_PORT = 8020
_ADDRESS = re.compile(r"<name>dfs\.namenode\.rpc-address\.[^<]*</name><value>([^<]*)</value>")
#: A fault's name in mlflow_hdfs/faults.py -> what to do.
_REMEDIES = {
    "no-ticket": "correct principal and keytab",
    "expired": "write a new token, or principal and keytab, which renew by themselves",
    "skew": "set the machine's clock; `timedatectl` shows it",
    "unknown-principal": "correct principal, or let the realm's administrator make it",
    "token": "write namenode as the token names it, as a rule by its IP address; or a new token",
    "unknown-server": "write the host name that the cluster's principals have as namenode",
    "no-kdc": "correct krb5.realm and krb5.kdcs, and open port 88 to them",
    "not-renewed": "open port 88 to krb5.kdcs; if keytab was replaced, write the newest",
    "old-keys": "fetch the newest keytab, and run mlflow-configure --apply",
    "keytab": "write the keytab of principal",
    "wrong-realm": "correct krb5.realm and krb5.domain_realm",
    "sasl": "correct protection, which must be the cluster's",
    "not-a-namenode": "correct the port in namenode: that of dfs.namenode.rpc-address",
    "not-kerberos": "write principal and keytab if the cluster has Kerberos, else user",
    "permission": "let the folder's owner give the right, or use another principal",
    "dns": "correct the host's name, or the machine's DNS",
}


def trouble(place: str, *, write: bool = True) -> str:
    """Why MLflow cannot use hdfs://CLUSTER/FOLDER, in one line with a remedy; "" when it can.

    write: False only lists. The variables of hdfs-native must be those of this process.
    """
    if reason := _unreachable(place):
        return f"artifact store: {reason}"
    # What a cluster may mend by itself is said, too; the next look is soon.
    os.environ["MLFLOW_HDFS_PATIENCE_S"] = "0"
    try:
        repository: Any = importlib.import_module(mlflow_names.HDFS_ARTIFACTS)
        _use(repository.HdfsArtifactRepository(place), write=write)
    except Exception as error:  # the plugin's is MLflow's; the library raises some more
        return f"artifact store {place}: {cause(error)}"
    return ""


def cause(error: Exception) -> str:
    """What an error of the plugin means, and what to do."""
    faults: Any = importlib.import_module(mlflow_names.HDFS_FAULTS)
    kind, said = faults.describe(error.__cause__ or error)
    remedy = _REMEDIES.get(kind.name, kind.remedy)
    return f"{kind.cause}: {said}" + (f"; {remedy}" if remedy else "")


def _unreachable(place: str) -> str:
    """Why no namenode can be reached; "" when one can."""
    reasons = []
    nodes = _namenodes(place)
    key = f"{_BLOCK}.namenode" + ("s" if len(nodes) > 1 else "")
    for host, port in nodes:
        reason = reach.trouble(host, port, key)
        if not reason:
            return ""
        reasons.append(reason)
    return "; ".join(reasons)


def _namenodes(place: str) -> list[tuple[str, int]]:
    """Where the namenodes are: of a nameservice, they are in Hadoop's own file."""
    file = Path(os.environ.get("HADOOP_CONF_DIR", ""), "hdfs-site.xml")
    listed = _ADDRESS.findall(file.read_text(encoding="utf-8"))
    parts = [urlsplit(f"//{one}") for one in listed] or [urlsplit(place)]
    return [(str(one.hostname), one.port or _PORT) for one in parts]


def _use(repository: Any, *, write: bool) -> None:
    if not write:
        repository.list_artifacts(PROBE_FOLDER)
        return
    # Several servers may share a folder.
    name, content = f"{socket.gethostname()}-{os.getpid()}", b"mlflow-image"
    with tempfile.TemporaryDirectory() as folder:
        sent, back = Path(folder, name), Path(folder, "back")
        sent.write_bytes(content)
        repository.log_artifact(str(sent), PROBE_FOLDER)
        repository._download_file(f"{PROBE_FOLDER}/{name}", str(back))
        repository.delete_artifacts(f"{PROBE_FOLDER}/{name}")
        found = back.read_bytes()
    if found != content:
        raise OSError(f"{len(found)} other bytes came back instead of the {len(content)} written")
