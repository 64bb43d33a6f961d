"""artifact_store.hdfs: the cluster, how the server proves who it is, and Hadoop's own files.

Sources: Hadoop's "Secure Mode", core-default.xml and hdfs-default.xml; MIT's krb5.conf(5); RFC 4120
for realms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import RUN, Given, RenderedFile, below, known_keys, text_faults
from mlflow_settings.blocks.kerberos import (
    Realm,
    address_fault,
    decoded,
    keytab_fault,
    krb5_conf_fault,
    principal_fault,
    realm_faults,
    token_fault,
    whose_keytab,
)
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded, shown

#: Hadoop's own files; HADOOP_CONF_DIR.
FOLDER = f"{RUN}/hadoop"
CORE_SITE = f"{FOLDER}/core-site.xml"
HDFS_SITE = f"{FOLDER}/hdfs-site.xml"
KEYTAB = f"{RUN}/hdfs.keytab"
TOKEN = f"{RUN}/hdfs.token"
KRB5_CONF = f"{RUN}/krb5.conf"
FILES = (CORE_SITE, HDFS_SITE, KEYTAB, TOKEN, KRB5_CONF)
#: In memory: nothing is left of the tickets when a process ends.
TICKETS = "MEMORY:mlflow"
#: What hdfs-native, MIT Kerberos and the plugin read; the values are Hadoop's and MIT's.
VARIABLES = (
    *("HADOOP_CONF_DIR", "HADOOP_TOKEN_FILE_LOCATION", "HADOOP_USER_NAME"),
    *("KRB5CCNAME", "KRB5_CLIENT_KTNAME", "KRB5_CONFIG"),
    *("MLFLOW_HDFS_ON_SERVER", "MLFLOW_HDFS_PATIENCE_S"),
    *("MLFLOW_KERBEROS_TICKET_CACHE", "MLFLOW_KERBEROS_USER"),
)
PORT = 8020
#: How long the server waits for a cluster that is away. A request in waiting holds one of its
#: threads; MLflow's clients try again by themselves.
PATIENCE_S = "10"
#: At the top of Hadoop's files.
MADE_BY = "Made by mlflow-image from the server's settings."

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Hdfs:
    """A folder of a cluster.

    namenode: of a cluster with one; else nameservice and namenodes. keytab, token: base64, or the
    file to read them from. user: in a cluster without Kerberos.
    """

    path: str
    namenode: str = ""
    nameservice: str = ""
    namenodes: tuple[str, ...] = ()
    access: str = "proxied"
    user: str = ""
    principal: str = ""
    keytab: str | FromFile = field(default="", repr=False)
    token: str | FromFile = field(default="", repr=False)
    krb5: Realm | None = None
    krb5_conf: str | FromFile = ""
    protection: str = "authentication"

    RULES: ClassVar[Mapping[str, Any]] = {
        "keytab": keytab_fault,
        "krb5_conf": krb5_conf_fault,
        "token": token_fault,
    }

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Hdfs:
        """Of checked values."""
        values = {**sources.values(given), "path": given["path"].rstrip("/") or "/"}
        values["namenodes"] = tuple(given.get("namenodes", ()))
        if realm := given.get("krb5"):
            values["krb5"] = Realm(
                realm["realm"], tuple(realm.get("kdcs", ())), dict(realm.get("domain_realm", {}))
            )
        return cls(**known_keys(cls, values))

    @property
    def uri(self) -> str:
        """The place of this server's artifacts."""
        return f"hdfs://{self.nameservice or with_port(self.namenode)}{quote(self.path)}"

    @property
    def locations(self) -> tuple[str, ...]:
        """Every place that experiments may name."""
        return (self.uri,)

    @property
    def is_secure(self) -> bool:
        """Whether the cluster asks for Kerberos, or for a token that somebody got by it."""
        return bool(self.principal or self.token)

    def faults_of_texts(self) -> Iterator[Worded]:
        """The rule between the keytab and the principal, once the keytab is there."""
        if isinstance(self.keytab, str):
            yield from whose_keytab(self.keytab, self.principal)

    def environment(self) -> Mapping[str, str]:
        """Hadoop's and Kerberos' variables; the secrets are in the files that they name."""
        found = {
            "HADOOP_CONF_DIR": FOLDER,
            "MLFLOW_HDFS_ON_SERVER": "true",
            "MLFLOW_HDFS_PATIENCE_S": PATIENCE_S,
        }
        if not self.is_secure:
            return {**found, "HADOOP_USER_NAME": self.user} if self.user else found
        if self.krb5 or self.krb5_conf:
            found["KRB5_CONFIG"] = KRB5_CONF
        if self.token:
            found["HADOOP_TOKEN_FILE_LOCATION"] = TOKEN
        if self.principal:
            found["KRB5CCNAME"] = TICKETS
            found["KRB5_CLIENT_KTNAME"] = KEYTAB
            found["MLFLOW_KERBEROS_USER"] = self.principal
        return found

    def run_files(self) -> Iterator[RenderedFile]:
        """Hadoop's two files, krb5.conf, the keytab and the token.

        A new ticket is asked for with the keytab of that moment.
        """
        yield RenderedFile(CORE_SITE, as_xml(self.core_site()), 0o640)
        yield RenderedFile(HDFS_SITE, as_xml(self.hdfs_site()), 0o640)
        if text := self.krb5_text:
            yield RenderedFile(KRB5_CONF, text, 0o640)
        if isinstance(self.keytab, str) and self.keytab:
            raw = decoded(self.keytab)
            yield RenderedFile(KEYTAB, raw, 0o600, owner="mlflow", live=True)
        if isinstance(self.token, str) and self.token:
            yield RenderedFile(TOKEN, decoded(self.token), 0o600, owner="mlflow")

    @property
    def krb5_text(self) -> str:
        """krb5.conf, also for clients; "" for the machine's own, or while it is unread."""
        if isinstance(self.krb5_conf, FromFile):
            return ""
        text = self.krb5_conf or (self.krb5.text if self.krb5 else "")
        return f"{text.rstrip()}\n" if text else ""

    def core_site(self) -> Mapping[str, str]:
        """The values of core-site.xml, also for clients."""
        place = self.nameservice or with_port(self.namenode)
        found = {"fs.defaultFS": f"hdfs://{place}"}
        if self.is_secure:
            found["hadoop.security.authentication"] = "kerberos"
            found["hadoop.rpc.protection"] = self.protection
        return found

    def hdfs_site(self) -> Mapping[str, str]:
        """The values of hdfs-site.xml, also for clients."""
        found = {"dfs.client.use.datanode.hostname": "true"}
        if self.is_secure:
            found["dfs.data.transfer.protection"] = self.protection
        if service := self.nameservice:
            names = [f"nn{number}" for number, _ in enumerate(self.namenodes, 1)]
            found["dfs.nameservices"] = service
            found[f"dfs.ha.namenodes.{service}"] = ",".join(names)
            for name, address in zip(names, self.namenodes, strict=True):
                found[f"dfs.namenode.rpc-address.{service}.{name}"] = with_port(address)
        return found


def with_port(address: str) -> str:
    """HOST:PORT; HDFS's own port if there is none."""
    return address if ":" in address else f"{address}:{PORT}"


def as_xml(values: Mapping[str, str]) -> str:
    """A file of Hadoop's kind."""
    lines = (
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in values.items()
    )
    top = f'<?xml version="1.0"?>\n<!-- {MADE_BY} -->\n<configuration>\n'
    return top + "".join(lines) + "</configuration>\n"


def faults(given: Given) -> Iterator[Worded]:
    """The rules for the keys; paths start inside hdfs."""
    yield from text_faults(given, "namenode", namenode_fault)
    yield from text_faults(given, "namenodes", namenode_fault)
    yield from text_faults(given, "nameservice", _service_fault)
    yield from text_faults(given, "path", _path_fault)
    yield from text_faults(given, "principal", principal_fault)
    yield from text_faults(given, "user", _user_fault)
    yield from sources.faults(given, Hdfs.RULES)
    if isinstance(realm := given.get("krb5"), dict):
        yield from below("krb5", realm_faults(realm))
    yield from _which_cluster(given)
    yield from _who(given)


def _which_cluster(given: Given) -> Iterator[Worded]:
    if not given:
        return
    names = ("namenode", "nameservice")
    if all(name in given for name in names):
        yield Worded(("nameservice",), "is given besides namenode", "", "keep one of them")
    if not any(name in given for name in names):
        remedy = "write the namenode's HOST:PORT; for a cluster with several, nameservice"
        yield Worded(("namenode",), "is missing", "", remedy)
    if "nameservice" in given and not given.get("namenodes"):
        yield Worded(("namenodes",), "is missing", "", "write HOST:PORT of each namenode")
    if "namenodes" in given and "nameservice" not in given:
        yield Worded(("nameservice",), "is missing", "", "write its name in hdfs-site.xml")


def _who(given: Given) -> Iterator[Worded]:
    ways = [name for name in ("principal", "token", "user") if name in given]
    for way in ways[1:]:
        remedy = "keep principal with a keytab, token, or, without Kerberos, user"
        yield Worded((way,), f"is given besides {ways[0]}", "", remedy)
    if "principal" in given and "keytab" not in given:
        yield Worded(("keytab",), "is missing", "", "write it as base64, or {from_file: PATH}")
    if "keytab" in given and "principal" not in given:
        remedy = "write whose keytab it is, such as mlflow@EXAMPLE.COM"
        yield Worded(("principal",), "is missing, but keytab is given", "", remedy)
    for key in ("krb5", "krb5_conf", "protection"):
        if key in given and not {"principal", "token", "keytab"} & set(given):
            remedy = "with Kerberos write principal and keytab; else leave this out"
            yield Worded((key,), "is given without a principal", "", remedy)
    if "krb5" in given and "krb5_conf" in given:
        yield Worded(("krb5_conf",), "is given besides krb5", "", "keep one of them")
    keytab, principal = given.get("keytab"), given.get("principal")
    if isinstance(keytab, str) and isinstance(principal, str) and not keytab_fault(keytab):
        yield from whose_keytab(keytab, principal)


def namenode_fault(address: str) -> Reason | None:
    """Why a text is not HOST or HOST:PORT, or None."""
    return address_fault(address, "namenode.example.com:8020")


def _service_fault(name: str) -> Reason | None:
    if _SERVICE.fullmatch(name):
        return None
    return Reason(f"is {shown(name)}, not a nameservice", "write dfs.nameservices' value")


def _path_fault(path: str) -> Reason | None:
    if path.startswith(("hdfs:", "viewfs:")):
        return Reason(f"is {shown(path)}, a URI", "write only its folder, such as /mlflow")
    if not path.startswith("/"):
        return Reason(f"is {shown(path)}, not an absolute path", "write a folder such as /mlflow")
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts if path != "/") or set(path) & set(":%"):
        return Reason(
            f"is {shown(path)}, which is no path of HDFS", "write a folder such as /mlflow"
        )
    if not path.isprintable():
        return Reason("contains a control character", "remove it")
    return None


def _user_fault(user: str) -> Reason | None:
    if _USER.fullmatch(user):
        return None
    return Reason(f"is {shown(user)}, not a user of HDFS", "write a name such as mlflow")
