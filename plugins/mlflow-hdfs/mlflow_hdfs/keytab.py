"""What is in a keytab: GSSAPI says only that there are no credentials.

Source: MIT's documentation, "The Kerberos keytab binary file format".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

_MAGIC = b"\x05\x02"


class NotAKeytabError(ValueError):
    """The bytes are not those of a keytab."""


def principals(raw: bytes) -> list[str]:
    """NAME@REALM of each entry, once, in order; none of a damaged rest. Raises NotAKeytabError."""
    if not raw.startswith(_MAGIC):
        raise NotAKeytabError("it does not begin with the bytes 05 02")
    found: list[str] = []
    at = len(_MAGIC)
    try:
        while at < len(raw):
            (size,) = struct.unpack_from(">i", raw, at)
            at += 4
            if size > 0:
                found.append(_principal(raw[at : at + size]))
            at += abs(size) or len(raw)  # a negative size: a hole that a deleted entry has left
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        if not found:
            raise NotAKeytabError("it is cut off or damaged") from error
    return list(dict.fromkeys(found))


def _principal(entry: bytes) -> str:
    (count,) = struct.unpack_from(">H", entry, 0)
    at, texts = 2, []
    for _ in range(count + 1):
        (length,) = struct.unpack_from(">H", entry, at)
        at += 2
        if at + length > len(entry):
            raise IndexError
        texts.append(entry[at : at + length].decode())
        at += length
    realm, *components = texts
    return f"{'/'.join(components)}@{realm}"


def trouble(environment: Mapping[str, str] = os.environ) -> str:
    """Why the keytab of KRB5_CLIENT_KTNAME cannot be used, or "" (also without one)."""
    path = environment.get("KRB5_CLIENT_KTNAME", "").replace("FILE:", "", 1)
    if not path:
        return ""
    try:
        known = principals(Path(path).read_bytes())
    except OSError as error:
        return f"the keytab {path} cannot be read: {error.strerror}"
    except NotAKeytabError as error:
        return f"{path} is not a keytab: {error}"
    wanted = environment.get("MLFLOW_KERBEROS_USER", "")
    names = known if "@" in wanted else [one.partition("@")[0] for one in known]
    if wanted and wanted not in names:
        return f"the keytab {path} has no key of {wanted}, but of {', '.join(known) or 'nobody'}"
    return ""
