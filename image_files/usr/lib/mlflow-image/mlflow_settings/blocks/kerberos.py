"""Kerberos in settings: realms, krb5.conf, principals; keytabs and Hadoop's tokens as base64.

Sources: MIT's krb5.conf(5) and "The Kerberos keytab binary file format"; RFC 4120 for realms;
Hadoop's class Credentials. plugins/mlflow-hdfs reads keytabs, too; a test compares the two.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlflow_settings.blocks.block import Given, text_faults
from mlflow_settings.wording import Reason, Worded, shown

_MAGIC = b"\x05\x02"
_TOKENS_MAGIC = b"HDTS"
_DOMAIN = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_REALM = re.compile(r"[A-Z0-9][A-Z0-9.-]*")
_PRINCIPAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(@[A-Z0-9.-]+)?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Realm:
    """A Kerberos realm and where its KDCs are."""

    realm: str
    kdcs: tuple[str, ...] = ()
    domain_realm: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its krb5.conf. Without kdcs, DNS is asked for them."""
        kdcs = "".join(f"    kdc = {kdc}\n" for kdc in self.kdcs)
        domains = "".join(f"  {name} = {realm}\n" for name, realm in self.domain_realm.items())
        look_up = str(not self.kdcs).lower()
        # TCP: tickets of Active Directory are often too long for UDP. No canonical names: a node of
        # the cluster says who it is, and DNS may know it by another name.
        return (
            f"[libdefaults]\n  default_realm = {self.realm}\n  dns_lookup_kdc = {look_up}\n"
            "  dns_lookup_realm = false\n  dns_canonicalize_hostname = false\n  rdns = false\n"
            "  udp_preference_limit = 1\n"
            f"[realms]\n  {self.realm} = {{\n{kdcs}  }}\n[domain_realm]\n{domains}"
        )


def decoded(text: str) -> bytes:
    """The bytes of checked base64, which may have line breaks."""
    return base64.b64decode("".join(text.split()))


def keytab_fault(text: str) -> Reason | None:
    """Why a text is not a keytab in base64, or None."""
    remedy = "write what `base64 -w0 FILE.keytab` prints, or {from_file: PATH}"
    raw = _decoded(text)
    if raw is None:
        return Reason("is not base64", remedy)
    if not raw.startswith(_MAGIC):
        look = "a keytab begins with the bytes 05 02; `klist -k FILE` shows what is in one"
        return Reason("is not a keytab", look)
    if not principals(raw):
        return Reason("is a keytab without a whole entry", "export it again, and copy all of it")
    return None


def token_fault(text: str) -> Reason | None:
    """Why a text is not a file of delegation tokens in base64, or None."""
    raw = _decoded(text)
    if raw is None:
        return Reason("is not base64", "write what `base64 -w0 FILE` prints, or {from_file: PATH}")
    if not raw.startswith(_TOKENS_MAGIC):
        return Reason("is not a token file", "write the file that `hdfs fetchdt FILE` makes")
    return None


def principals(raw: bytes) -> list[str]:
    """NAME@REALM of each entry of a keytab, once, in order; none of a damaged rest."""
    found: list[str] = []
    at = len(_MAGIC)
    try:
        while at < len(raw):
            (size,) = struct.unpack_from(">i", raw, at)
            at += 4
            if size > 0:
                found.append(_principal(raw[at : at + size]))
            at += abs(size) or len(raw)  # a negative size: a hole that a deleted entry has left
    except (struct.error, UnicodeDecodeError, IndexError):
        pass
    return list(dict.fromkeys(found))


def whose_keytab(keytab: str, principal: str) -> Iterator[Worded]:
    """The fault of a keytab that has no key of the principal."""
    names = principals(decoded(keytab)) if keytab else []
    same = names if "@" in principal else [name.partition("@")[0] for name in names]
    if names and principal not in same:
        message = f"has no key of {shown(principal)}, only of {shown(', '.join(names))}"
        yield Worded(("keytab",), message, "", "correct principal, or take its own keytab")


def realm_faults(given: Given) -> Iterator[Worded]:
    """The rules for krb5; paths start inside it."""
    yield from text_faults(given, "realm", _realm_fault)
    yield from text_faults(given, "kdcs", _kdc_fault)
    if isinstance(domains := given.get("domain_realm"), dict):
        for name, realm in domains.items():
            if isinstance(realm, str) and (reason := _domain_fault(name) or _realm_fault(realm)):
                path = ("domain_realm", name)
                yield Worded(path, reason.message, shown(realm), reason.remedy)


def principal_fault(principal: str) -> Reason | None:
    """Why a text is not NAME, NAME/HOST or either with @REALM, or None."""
    if _PRINCIPAL.fullmatch(principal):
        return None
    remedy = "write a principal such as mlflow@EXAMPLE.COM; a realm has capitals"
    return Reason(f"is {shown(principal)}, not a principal", remedy)


def _realm_fault(realm: str) -> Reason | None:
    if _REALM.fullmatch(realm):
        return None
    return Reason(f"is {shown(realm)}, not a realm", "write capitals, such as EXAMPLE.COM")


def krb5_conf_fault(text: str) -> Reason | None:
    """Why a text is not a krb5.conf, or None."""
    if "[libdefaults]" in text or "[realms]" in text:
        return None
    return Reason("is not a krb5.conf", "write its text with [libdefaults] and [realms]")


def address_fault(address: str, example: str) -> Reason | None:
    """Why a text is not HOST or HOST:PORT, or None."""
    if "://" in address:
        return Reason(f"is {shown(address)}, a URI", f"write only HOST:PORT, such as {example}")
    if not _HOST.fullmatch(address):
        return Reason(f"is {shown(address)}, not HOST:PORT", f"write {example}")
    port = address.partition(":")[2]
    if port and not 0 < int(port) <= 65535:
        return Reason(f"has the port {port}", "write a port from 1 to 65535")
    return None


def _kdc_fault(address: str) -> Reason | None:
    return address_fault(address, "kdc.example.com")


def _domain_fault(name: str) -> Reason | None:
    if _DOMAIN.fullmatch(name):
        return None
    return Reason("is not a domain", "write a host's name, or .example.com for all below it")


def _principal(entry: bytes) -> str:
    (count,) = struct.unpack_from(">H", entry, 0)
    at, texts = 2, []
    for _ in range(count + 1):
        (length,) = struct.unpack_from(">H", entry, at)
        if at + 2 + length > len(entry):
            raise IndexError
        texts.append(entry[at + 2 : at + 2 + length].decode())
        at += 2 + length
    realm, *components = texts
    return f"{'/'.join(components)}@{realm}"


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
