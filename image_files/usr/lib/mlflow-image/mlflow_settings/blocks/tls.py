"""The block `tls`: how clients reach the server by HTTPS, and whose certificate they see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

from mlflow_settings.blocks import certificate as pem
from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import (
    Block,
    Given,
    Machine,
    below,
    known_keys,
    only_one_of,
    text_faults,
)
from mlflow_settings.blocks.hosts import allowed_host_fault, is_address
from mlflow_settings.blocks.server import HTTP
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded, shown

#: The directory of Let's Encrypt (its documentation, "Getting Started").
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
HTTPS = 443
#: The port that a URL of each scheme means when it names none.
USUAL_PORTS = {"http": HTTP, "https": HTTPS}
WAYS = ("self_signed", "files", "acme")
_EMAIL = re.compile(r"[^@\s<>()\[\],;:\\\"]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")


@dataclass(frozen=True)
class SelfSigned:
    """A certificate that the machine makes, of an authority of its own."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """A certificate of the operator's; each is the text, or the file to read it from."""

    certificate: str | FromFile
    key: str | FromFile = field(repr=False)

    RULES: ClassVar[Mapping[str, Any]] = {
        "certificate": pem.chain_fault,
        "key": pem.key_fault,
    }

    def faults_of_texts(self) -> Iterator[Worded]:
        """The rule for certificate and key together, once both are texts."""
        if isinstance(self.certificate, FromFile) or isinstance(self.key, FromFile):
            return
        if reason := pem.pair_fault(self.certificate, self.key):
            yield Worded(("key",), reason.message, "", reason.remedy)

    def expiry_fault(self) -> Reason | None:
        """Why the clock says that the certificate cannot be used, or None."""
        if isinstance(self.certificate, FromFile):
            return None
        return pem.time_fault(self.certificate)

    @property
    def names(self) -> tuple[str, ...]:
        """Whom the certificate is for; nothing on the laptop, when it is in a file."""
        if isinstance(self.certificate, FromFile):
            return ()
        return pem.names_of(pem.decoded(self.certificate))


@dataclass(frozen=True)
class Acme:
    """A certificate that an authority issues and renews by itself (RFC 8555).

    ca_certificate: of a private authority's own server.
    """

    email: str
    names: tuple[str, ...]
    directory_url: str = LETS_ENCRYPT
    ca_certificate: str | FromFile = ""


@dataclass(frozen=True)
class Tls(Block):
    """How clients reach the server: by HTTPS in one of three ways, or by HTTP."""

    port: int = HTTPS
    self_signed: SelfSigned | None = None
    files: Files | None = None
    acme: Acme | None = None

    OWNED: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rules for names, certificates and keys."""
        yield from only_one_of(given, WAYS)
        if set(given) <= {"port"} and given:
            remedy = "write one of self_signed, files and acme, too"
            yield Worded(("port",), "is given without a way to a certificate", "", remedy)
        for key in ("self_signed", "acme"):
            block = given.get(key)
            if isinstance(block, dict):
                rule = _public_name_fault if key == "acme" else _name_fault
                yield from below(key, text_faults(block, "names", rule))
        if isinstance(acme := given.get("acme"), dict):
            yield from below("acme", _acme_faults(acme))
        if isinstance(files := given.get("files"), dict):
            yield from below("files", _files_faults(files))

    def environment(self, machine: Machine) -> Mapping[str, str]:
        """Nothing: the proxy (render.py) has the certificate, and the server never sees it."""
        return {}

    @property
    def way(self) -> SelfSigned | Files | Acme | None:
        """Where the certificate comes from; None: no TLS."""
        return self.self_signed or self.files or self.acme

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which clients know the server."""
        return self.way.names if self.way else ()

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Tls:
        """Of checked values."""
        values = known_keys(cls, given)
        for key, kind in (("self_signed", SelfSigned), ("files", Files), ("acme", Acme)):
            if key in values:
                below_key = known_keys(kind, sources.values(values[key]))
                if "names" in below_key:
                    below_key["names"] = tuple(one.lower() for one in below_key["names"])
                values[key] = kind(**below_key)
        return cls(**values)


def _files_faults(files: Given) -> Iterator[Worded]:
    found = list(sources.faults(files, Files.RULES))
    yield from found
    texts = (files.get("certificate"), files.get("key"))
    if not found and all(isinstance(one, str) for one in texts):
        yield from Files(str(texts[0]), str(texts[1])).faults_of_texts()


def _acme_faults(acme: Given) -> Iterator[Worded]:
    yield from text_faults(acme, "email", _email_fault)
    yield from text_faults(acme, "directory_url", _directory_fault)
    yield from sources.ca_faults(acme)


def _name_fault(text: str) -> Reason | None:
    if reason := allowed_host_fault(text):
        # An IPv6 address has no brackets here.
        if ":" in text and not text.startswith("["):
            return None if is_address(text) and "%" not in text else reason
        return reason
    if re.search(r":\d+$", text) and not is_address(text):
        return Reason(f"is {shown(text)}, with a port", "leave the port out")
    if "*" in text and not re.fullmatch(r"\*\.[^*]+", text):
        return Reason(f"is {shown(text)}, an unusual pattern", "write names, or *.example.com")
    return None


def _public_name_fault(text: str) -> Reason | None:
    if reason := _name_fault(text):
        return reason
    if "*" in text:
        remedy = "list the names: a pattern needs a proof by DNS, which is not offered here"
        return Reason(f"is {shown(text)}, a pattern", remedy)
    if is_address(text.strip("[]")):
        remedy = "write DNS names: most authorities issue no certificate for an address"
        return Reason(f"is {shown(text)}, an address", remedy)
    return None


def _email_fault(text: str) -> Reason | None:
    if _EMAIL.fullmatch(text):
        return None
    return Reason(f"is {shown(text)}, not an e-mail address", "write one such as ops@example.com")


def _directory_fault(text: str) -> Reason | None:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or re.search(r"[\s\"']", text):
        remedy = f"write the directory's URL, such as {LETS_ENCRYPT}"
        return Reason(f"is {shown(text)}, not an https:// URL", remedy)
    return None
