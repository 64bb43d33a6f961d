"""artifact_store.hdfs: the cluster, how the server proves who it is, and Hadoop's own files.

Sources: Hadoop's "Secure Mode", core-default.xml and hdfs-default.xml; MIT's krb5.conf(5); RFC 4120
for realms. A keytab begins with 05 02 (MIT, "The Kerberos keytab binary file format").
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import RUN, Given, RenderedFile, below, known_keys, text_faults
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded, shown

#: Hadoop's files; HADOOP_CONF_DIR.
FOLDER = f"{RUN}/hadoop"
KEYTAB = f"{RUN}/hdfs.keytab"
KRB5_CONF = f"{RUN}/krb5.conf"
#: In memory: nothing is left of the tickets when a process ends.
TICKETS = "MEMORY:mlflow"
PORT = 8020
PROTECTIONS = ("authentication", "integrity", "privacy")

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(@[A-Z0-9.-]+)?")
_REALM = re.compile(r"[A-Z0-9][A-Z0-9.-]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
_MAGIC = (b"\x05\x02", b"\x05\x01")


@dataclass(frozen=True)
class Realm:
    """A Kerberos realm and where its KDCs are."""

    realm: str
    kdcs: tuple[str, ...] = ()
    domain_realm: Mapping[str, str] = field(default_factory=dict)


def keytab_fault(text: str) -> Reason | None:
    """Why a text is not a keytab in base64, or None."""
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return Reason("is not base64", "write what `base64 -w0 FILE.keytab` prints")
    if not raw.startswith(_MAGIC):
        return Reason(
            "is base64, but not of a keytab",
            "a keytab begins with the bytes 05 02; `klist -k FILE` shows what is in one",
        )
    return None


@dataclass(frozen=True)
class Hdfs:
    """A folder of a cluster. keytab: base64, or the file to read it from.

    nameservice, namenodes: of a cluster with several; else namenode. user: without Kerberos.
    """

    path: str
    namenode: str = ""
    nameservice: str = ""
    namenodes: tuple[str, ...] = ()
    access: str = "proxied"
    user: str = ""
    principal: str = ""
    keytab: str | FromFile = field(default="", repr=False)
    krb5: Realm | None = None
    krb5_conf: str | FromFile = ""
    protection: str = "authentication"

    RULES: ClassVar[Mapping[str, Any]] = {"keytab": keytab_fault}

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
    def is_secure(self) -> bool:
        """Whether the cluster asks for Kerberos."""
        return bool(self.principal)

    def environment(self) -> Mapping[str, str]:
        """Hadoop's and Kerberos' variables; the secrets are in the files that they name."""
        found = {"HADOOP_CONF_DIR": FOLDER}
        if not self.is_secure:
            return {**found, "HADOOP_USER_NAME": self.user} if self.user else found
        return {
            **found,
            "KRB5CCNAME": TICKETS,
            "KRB5_CLIENT_KTNAME": KEYTAB,
            "MLFLOW_KERBEROS_USER": self.principal,
            **({"KRB5_CONFIG": KRB5_CONF} if self.krb5 or self.krb5_conf else {}),
        }

    def run_files(self) -> Iterator[RenderedFile]:
        """Hadoop's two files, krb5.conf and the keytab."""
        yield RenderedFile(f"{FOLDER}/core-site.xml", as_xml(self.core_site()), 0o640)
        yield RenderedFile(f"{FOLDER}/hdfs-site.xml", as_xml(self.hdfs_site()), 0o640)
        if isinstance(self.krb5_conf, str) and (text := self.krb5_conf or self._krb5()):
            yield RenderedFile(KRB5_CONF, text.rstrip() + "\n", 0o640)

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

    def _krb5(self) -> str:
        if self.krb5 is None:
            return ""
        realm = self.krb5
        kdcs = "".join(f"    kdc = {kdc}\n" for kdc in realm.kdcs)
        domains = "".join(f"  {name} = {to}\n" for name, to in realm.domain_realm.items())
        look_up = str(not realm.kdcs).lower()
        return (
            f"[libdefaults]\n  default_realm = {realm.realm}\n  dns_lookup_kdc = {look_up}\n"
            "  dns_lookup_realm = false\n  rdns = false\n  udp_preference_limit = 1\n"
            f"[realms]\n  {realm.realm} = {{\n{kdcs}  }}\n[domain_realm]\n{domains}"
        )


def with_port(address: str) -> str:
    """HOST:PORT; HDFS's own port if there is none."""
    return address if ":" in address else f"{address}:{PORT}"


def as_xml(values: Mapping[str, str]) -> str:
    """A file of Hadoop's kind."""
    lines = (
        f"  <property><name>{escape(name)}</name><value>{escape(value)}</value></property>\n"
        for name, value in values.items()
    )
    return '<?xml version="1.0"?>\n<configuration>\n' + "".join(lines) + "</configuration>\n"


def faults(given: Given) -> Iterator[Worded]:
    """The rules for the keys; paths start inside hdfs."""
    yield from text_faults(given, "namenode", _address_fault)
    yield from text_faults(given, "namenodes", _address_fault)
    yield from text_faults(given, "nameservice", _service_fault)
    yield from text_faults(given, "path", _path_fault)
    yield from text_faults(given, "principal", _principal_fault)
    yield from text_faults(given, "user", _user_fault)
    yield from sources.faults(given, {"keytab": keytab_fault, "krb5_conf": _krb5_conf_fault})
    if isinstance(realm := given.get("krb5"), dict):
        yield from below("krb5", text_faults(realm, "realm", _realm_fault))
        yield from below("krb5", text_faults(realm, "kdcs", _address_fault))
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
    if "user" in given and "principal" in given:
        remedy = "with Kerberos keep principal; without it, user"
        yield Worded(("user",), "is given besides principal", "", remedy)
    if "principal" in given and "keytab" not in given:
        yield Worded(("keytab",), "is missing", "", "write it as base64, or {from_file: PATH}")
    for key in ("keytab", "krb5", "krb5_conf", "protection"):
        if key in given and "principal" not in given:
            remedy = "write the principal, such as mlflow@EXAMPLE.COM"
            yield Worded(("principal",), f"is missing, but {key} is given", "", remedy)
            break
    if "krb5" in given and "krb5_conf" in given:
        yield Worded(("krb5_conf",), "is given besides krb5", "", "keep one of them")


def _address_fault(address: str) -> Reason | None:
    if "://" in address:
        return Reason(f"is {shown(address)}, a URI", "write only HOST:PORT")
    if not _HOST.fullmatch(address):
        return Reason(f"is {shown(address)}, not HOST:PORT", "write namenode.example.com:8020")
    port = address.partition(":")[2]
    if port and not 0 < int(port) <= 65535:
        return Reason(f"has the port {port}", "write a port from 1 to 65535")
    return None


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
    if any(part in ("", ".", "..") for part in parts if path != "/") or ":" in path:
        return Reason(
            f"is {shown(path)}, which is no path of HDFS", "write a folder such as /mlflow"
        )
    if not path.isprintable():
        return Reason("contains a control character", "remove it")
    return None


def _principal_fault(principal: str) -> Reason | None:
    if _PRINCIPAL.fullmatch(principal):
        return None
    remedy = "write a principal such as mlflow@EXAMPLE.COM; a realm has capitals"
    return Reason(f"is {shown(principal)}, not a principal", remedy)


def _realm_fault(realm: str) -> Reason | None:
    if _REALM.fullmatch(realm):
        return None
    return Reason(f"is {shown(realm)}, not a realm", "write capitals, such as EXAMPLE.COM")


def _user_fault(user: str) -> Reason | None:
    if _USER.fullmatch(user):
        return None
    return Reason(f"is {shown(user)}, not a user of HDFS", "write a name such as mlflow")


def _krb5_conf_fault(text: str) -> Reason | None:
    if "[libdefaults]" in text or "[realms]" in text:
        return None
    return Reason("is not a krb5.conf", "write its text with [libdefaults] and [realms]")
