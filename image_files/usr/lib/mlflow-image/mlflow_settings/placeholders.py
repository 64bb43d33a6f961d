"""Values of our examples and of tutorials that nobody has replaced yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_settings.wording import Path, Worded, is_secret

#: The values in capitals in cloud-init/*.yaml, which every user must replace.
NAMES = (
    "ACCESS_KEY_ID",
    "ADMIN_PASSWORD",
    "BALANCER_ADDRESS",
    "BALANCER_PASSWORD",
    "BUCKET_NAME",
    "DATABASE_HOST",
    "DATABASE_NAME",
    "DATABASE_PASSWORD",
    "DATABASE_USER",
    "KDC_HOST",
    "KERBEROS_PRINCIPAL",
    "KERBEROS_REALM",
    "KEYTAB_AS_BASE64",
    "NAMENODE_HOST",
    "OPERATOR_EMAIL",
    "SECRET_ACCESS_KEY",
    "SERVER_CERTIFICATE",
    "SERVER_KEY",
    "SERVER_NAME",
    "STORE_ENDPOINT",
    "STORE_REGION",
)
# As tutorials write them: <password>. A secret with a digit may really look like that.
_TUTORIAL = re.compile(r"<[^<>@:/]{1,40}>")
_PART_OF_URI = re.compile(r"(?<=[/:@=])<[^<>@:/]{1,40}>(?=[@:/?&]|$)")
_OTHERS = re.compile(
    r"<[^<>@:/\d]{1,40}>"  # <password>
    r"|\$\{?[A-Z_]{3,40}\}?"  # a shell's variable
    r"|YOUR_[A-Z_]{2,40}"
    r"|[A-Z]{0,8}\.\.\."  # AKIA...
)
#: Of the examples in our own messages.
_IN_URI = re.compile(r"(?<=//)(USER|BUCKET)(?=[:/]|$)|(?<=:)PASSWORD(?=@)|(?<=@)HOST(?=[:/])")
MESSAGE = "is still the example's"
_OWN_VALUE = "write your own; if it really is yours, put it in a file: {from_file: PATH}"
_OWN_PART = "write your own; if it really is yours, write < as %3C"
_QUOTES = 'write " or no quotes; if it belongs to a secret, put that in a file: {from_file: PATH}'
_QUOTED = re.compile(r"[\u201c-\u201f\u2018-\u201b\u00ab].*", re.DOTALL)
_OWN = re.compile(r"(?<![A-Z_])(" + "|".join(NAMES) + r")(?![A-Z_])")


def faults(data: Any, schema: Mapping[str, Any], path: Path = ()) -> Iterator[Worded]:
    """A fault for each text that is still a placeholder, or a URI that holds one."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from faults(value, schema, (*path, key))
    elif isinstance(data, list):
        for position, value in enumerate(data):
            yield from faults(value, schema, (*path, position))
    elif isinstance(data, str) and (found := _placeholder(data, is_secret(path, schema))):
        if found in NAMES or _IN_URI.search(data) or not is_secret(path, schema):
            yield Worded(path, f"{MESSAGE} {found}", found, "write your own value")
        else:
            remedy = _OWN_PART if "://" in data else _OWN_VALUE
            yield Worded(path, "holds what looks like an example's value", "", remedy)
    elif isinstance(data, str) and _QUOTED.fullmatch(data):
        yield Worded(path, "begins with a typographic quote", "", _QUOTES)


def _placeholder(text: str, secret: bool) -> str:
    if "://" in text:
        found = _OWN.search(text) or _IN_URI.search(text) or _PART_OF_URI.search(text)
    else:
        found = _OWN.fullmatch(text) or _OTHERS.fullmatch(text)
        if not found and not secret:
            found = _TUTORIAL.fullmatch(text)
    return found[0] if found else ""
