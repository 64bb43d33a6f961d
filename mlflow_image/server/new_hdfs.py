"""The part of a new settings file that names a folder in HDFS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from mlflow_image.errors import Refusal

SCHEME = "hdfs://"


@dataclass(frozen=True)
class Cluster:
    """What a user decides; values that are not known yet stay in capitals.

    keytab: base64. user: in a cluster without Kerberos; the other way is a principal.
    """

    namenode: str = "NAMENODE_HOST"
    path: str = "/user/mlflow/artifacts"
    principal: str = "KERBEROS_PRINCIPAL"
    keytab: str = field(default="KEYTAB_AS_BASE64", repr=False)
    kdc: str = "KDC_HOST"
    user: str = ""

    @property
    def place(self) -> str:
        """The folder, for people."""
        return f"{SCHEME}{self.namenode}{self.path}"


def of_uri(text: str) -> Cluster:
    """The cluster and folder of hdfs://NAMENODE/FOLDER; raises Refusal."""
    remedy = f"write {SCHEME}NAMENODE:8020/FOLDER"
    if not text.startswith(SCHEME):
        raise Refusal(f"--hdfs: {text} is not a place in HDFS", remedy=remedy)
    parts = urlsplit(text)
    if not parts.netloc or parts.path in ("", "/") or parts.query or parts.fragment:
        raise Refusal(f"--hdfs: {text} lacks its namenode or its folder", remedy=remedy)
    return Cluster(parts.netloc, unquote(parts.path))


def with_who(
    cluster: Cluster, principal: str = "", keytab: str = "", kdc: str = "", user: str = ""
) -> Cluster:
    """The cluster, and how the server proves who it is. Raises Refusal."""
    if user and (principal or keytab or kdc):
        remedy = "give --principal with Kerberos, --hdfs-user without it"
        raise Refusal("--hdfs-user is for clusters without Kerberos", remedy=remedy)
    if user:
        return replace(cluster, user=user)
    return replace(
        cluster,
        principal=principal or cluster.principal,
        keytab=keytab or cluster.keytab,
        kdc=kdc or cluster.kdc,
    )


def lines(cluster: Cluster, access: str) -> list[str]:
    """The lines below `artifact_store:`."""
    found = [
        "  hdfs:",
        "    # For a cluster with several namenodes: nameservice and namenodes, docs/hadoop.md.",
        f"    namenode: {_quoted(cluster.namenode)}",
        f"    path: {_quoted(cluster.path)}",
    ]
    if cluster.user:
        found.append(f"    user: {_quoted(cluster.user)}")
    else:
        realm = cluster.principal.partition("@")[2] or "KERBEROS_REALM"
        found += [
            f"    principal: {_quoted(cluster.principal)}",
            "    # What `base64 -w0 FILE.keytab` prints.",
            f"    keytab: {_quoted(cluster.keytab)}",
            "    krb5:",
            f"      realm: {_quoted(realm)}",
            f"      kdcs: [{_quoted(cluster.kdc)}]",
            "    # hadoop.rpc.protection and dfs.data.transfer.protection of the cluster.",
            "    protection: privacy",
        ]
    return [
        *found,
        "    # proxied: clients need only this server. direct: they use tickets of their own.",
        f"    access: {access}",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
