"""What a server's certificate and key are: whom they are for, until when, and whether they fit.

Only the standard library: the machine's own Python has nothing else.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow_settings.wording import Reason

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_KEY = re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----")
_WHOLE = "write the server's certificate first, then those that signed it, as PEM text"


def chain_fault(text: str) -> Reason | None:
    """Why a text is not a server's certificate, with those that signed it, or None."""
    if _KEY.search(text):
        return Reason("contains a private key", "write it to tls.files.key only")
    if not _BLOCK.search(text):
        return Reason("is not a PEM certificate", _WHOLE)
    try:
        found = decoded(text)
    except (ssl.SSLError, ValueError, OSError):
        return Reason("is not a certificate that OpenSSL can read", _WHOLE)
    if not names_of(found):
        remedy = "make one with subjectAltName: browsers and Python look at nothing else"
        return Reason("names no host (it has no subjectAltName)", remedy)
    return None


def time_fault(text: str, now_s: float | None = None) -> Reason | None:
    """Why the clock says that a readable certificate cannot be used, or None."""
    found = decoded(text)
    if seconds_left(found, now_s) < 0:
        return Reason(f"has expired: {found['notAfter']}", "write a new one")
    return None


def seconds_left(found: dict[str, Any], now_s: float | None = None) -> float:
    """How long a decoded certificate is valid; negative when it has expired."""
    return ssl.cert_time_to_seconds(found["notAfter"]) - (time.time() if now_s is None else now_s)


def key_fault(key: str) -> Reason | None:
    """Why a text is not a private key that a server can use by itself, or None."""
    found = _KEY.search(key)
    if not found:
        return Reason("is not a PEM private key", "write the key that the certificate was made for")
    if "ENCRYPTED" in found[1] or "Proc-Type: 4,ENCRYPTED" in key:
        remedy = "take the password off: `openssl pkey -in FILE`"
        return Reason("is encrypted: the server would ask for its password", remedy)
    return None


def pair_fault(chain: str, key: str) -> Reason | None:
    """Why a readable certificate and a key do not belong together, or None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def no_password() -> str:
        return ""

    with _in_memory(chain) as certificate_file, _in_memory(key) as key_file:
        try:
            context.load_cert_chain(certificate_file, key_file, no_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                remedy = "write the key that this certificate was made for"
                return Reason("does not belong to the certificate", remedy)
            return Reason("is not a key that OpenSSL can read", "write it as PEM text")
    return None


def decoded(chain: str) -> dict[str, Any]:
    """The first certificate of a text, as ssl.SSLSocket.getpeercert gives it.

    Raises ssl.SSLError, ValueError or OSError.
    """
    first = _BLOCK.search(chain)
    with _in_memory(first[0] if first else "") as file:
        # CPython's own way to decode a certificate that no connection has brought.
        decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
        found: dict[str, Any] = decode(file)
        return found


def names_of(found: dict[str, Any]) -> tuple[str, ...]:
    """The DNS names and addresses that a decoded certificate is for."""
    kinds = {"DNS": str.lower, "IP Address": _address}
    pairs: Sequence[tuple[str, str]] = found.get("subjectAltName", ())
    return tuple(kinds[kind](name) for kind, name in pairs if kind in kinds)


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate for these names is one for the host (RFC 6125: `*` is one label)."""
    host = host.lower().strip("[]")
    with contextlib.suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    _, _, rest = host.partition(".")
    return host in names or (rest != "" and f"*.{rest}" in names)


def _address(text: str) -> str:
    # OpenSSL prints IPv6 addresses in full, in capitals.
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path from which OpenSSL reads a text that is on no disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode("utf-8", "replace"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
