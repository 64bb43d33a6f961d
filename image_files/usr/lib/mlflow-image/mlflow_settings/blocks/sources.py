"""Where the value of a secret or a certificate comes from: inline, or a file on the machine.

The one place for it: a further source is a further class beside FromFile.
"""

from __future__ import annotations

import dataclasses
import posixpath
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from mlflow_settings.blocks.block import Given, below, text_faults
from mlflow_settings.blocks.pem import certificate_fault
from mlflow_settings.wording import Path, Reason, Worded, shown

MAX_BYTES = 128 * 1024
# mlflow-configure cannot see homes (ProtectHome), and anybody can write to the others.
_NOT_BELOW = ("/home", "/root", "/run/user", "/proc", "/sys", "/dev", "/tmp", "/var/tmp")  # noqa: S108
#: The keys whose texts have several lines.
PEM = frozenset({"ca_certificate", "certificate", "key"})
LINES = frozenset({*PEM, "krb5_conf"})
#: The keys whose values are bytes: inline as base64, in a file as they are.
BINARY = frozenset({"keytab", "token"})
#: Reads a file of the machine; raises OSError.
Read: TypeAlias = Callable[[str], bytes]
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class FromFile:
    """A value that is in a file on the machine, and was not read yet (on the laptop: never)."""

    path: str


def values(given: Given) -> Mapping[str, Any]:
    """The keys of a block, with each `from_file` and `ca_file` as FromFile."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key == "ca_file":
            found["ca_certificate"] = FromFile(str(value))
        elif isinstance(value, dict) and "from_file" in value:
            found[key] = FromFile(str(value["from_file"]))
        else:
            found[key] = value
    return found


def faults(given: Given, rules: Mapping[str, Callable[[str], Reason | None]]) -> Iterator[Worded]:
    """Apply the rule of each key to its inline value, and the rule for paths to its file."""
    for key, rule in rules.items():
        value = given.get(key)
        if isinstance(value, str) and (reason := rule(value)):
            yield Worded((key,), reason.message, "", reason.remedy)
        if isinstance(value, dict):
            yield from below(key, text_faults(value, "from_file", path_fault))


def ca_faults(given: Given) -> Iterator[Worded]:
    """The rules for ca_certificate and ca_file."""
    yield from faults(given, {"ca_certificate": certificate_fault})
    yield from text_faults(given, "ca_file", path_fault)
    if "ca_certificate" in given and "ca_file" in given:
        yield Worded(("ca_file",), "is given besides ca_certificate", "", "keep one of them")


def one_line_fault(text: str) -> Reason | None:
    """A secret goes into a file that has a line for each."""
    if any(ord(one) < 32 or ord(one) == 127 for one in text):
        return Reason("contains a line break or another control character", "remove it")
    return None


def path_fault(path: str) -> Reason | None:
    """Why a path is not one of a file that mlflow-configure can read, or None."""
    if not path.startswith("/") or posixpath.normpath(path) != path or not path.isprintable():
        return Reason(
            f"is {shown(path)}, not an absolute path", "write a path such as /etc/mlflow/x"
        )
    if below := [one for one in _NOT_BELOW if f"{path}/".startswith(f"{one}/")]:
        message = f"is {shown(path)}: files below {below[0]} are not read"
        return Reason(message, "put it elsewhere, such as below /etc/mlflow")
    return None


def read_all(settings: _T, read: Read, path: Path = ()) -> tuple[_T, list[Worded]]:
    """A block or settings in which each FromFile is the text of its file; and what is wrong.

    A class may have RULES, the rule of each of its texts, and a method `faults_of_texts` for rules
    between them, once all are there.
    """
    changed: dict[str, Any] = {}
    wrong: list[Worded] = []
    rules = getattr(settings, "RULES", {})
    for entry in dataclasses.fields(settings):  # type: ignore[arg-type]
        value, here = getattr(settings, entry.name), (*path, entry.name)
        if isinstance(value, FromFile):
            found = _text(value.path, read, entry.name, rules.get(entry.name))
            if isinstance(found, Reason):
                wrong.append(Worded(here, found.message, "", found.remedy))
            else:
                changed[entry.name] = found
        elif dataclasses.is_dataclass(value):
            changed[entry.name], more = read_all(value, read, here)
            wrong += more
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            found_all = [read_all(one, read, (*here, at)) for at, one in enumerate(value)]
            changed[entry.name] = tuple(one for one, _ in found_all)
            wrong += [worded for _, more in found_all for worded in more]
    result: Any = dataclasses.replace(settings, **changed)  # type: ignore[type-var]
    if not wrong and hasattr(result, "faults_of_texts"):
        wrong += below(path, result.faults_of_texts())
    return result, wrong


def _text(
    path: str, read: Read, key: str, rule: Callable[[str], Reason | None] | None
) -> str | Reason:
    try:
        raw = read(path)
    except OSError as error:
        return Reason(f"the file {path} cannot be read: {error.strerror}", "correct its path")
    if len(raw) > MAX_BYTES:
        return Reason(f"the file {path} has more than {MAX_BYTES} bytes", "correct its path")
    try:
        text = b64encode(raw).decode() if key in BINARY else raw.decode("utf-8")
    except UnicodeDecodeError:
        if key not in PEM:
            return Reason(f"the file {path} is not UTF-8 text", "write the value as text")
        text = "binary"  # a DER file, say: the rule says what to do
    if key in PEM:
        rule = rule or certificate_fault
    elif key not in LINES:
        text = text.removesuffix("\n").removesuffix("\r")
        rule = rule or one_line_fault
    reason = rule(text) if rule else None
    if not reason and not text:
        reason = Reason("is empty", "write the value into it")
    return Reason(f"the file {path} {reason.message}", reason.remedy) if reason else text
