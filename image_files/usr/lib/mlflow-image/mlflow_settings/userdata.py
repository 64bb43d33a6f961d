"""Finds the settings in user-data, and wraps settings as user-data; used on the host."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import posixpath
import zlib
from dataclasses import dataclass
from typing import Any

from mlflow_settings.document import MAX_BYTES, Document, Fault, Faults, load
from mlflow_settings.settings import template_gap

SETTINGS_PATH = "/etc/mlflow/settings.yaml"
_ENCODINGS = {
    "b64": (True, False),
    "base64": (True, False),
    "gz": (False, True),
    "gzip": (False, True),
    "gz+b64": (True, True),
    "gzip+base64": (True, True),
    "gz+base64": (True, True),
    "gzip+b64": (True, True),
    "text/plain": (False, False),
    "": (False, False),
}
_UNCHECKED = (
    (b"\x1f\x8b", "it is compressed"),
    (b"## template: jinja", "it is a Jinja template, which only the machine can fill in"),
    (b"Content-Type:", "it is a MIME archive"),
    (b"MIME-Version:", "it is a MIME archive"),
    (b"#cloud-config-archive", "it is a cloud-config archive"),
    (b"#cloud-boothook", "it is a boot hook"),
    (b"#include", "it includes other URLs"),
    (b"#part-handler", "it is a part handler"),
    (b"#!", "it is a script"),
)


@dataclass(frozen=True)
class UserData:
    """The settings that user-data contains.

    settings: the text of /etc/mlflow/settings.yaml, or None. line_offset: add it to a line of
    the settings to get the line of the user-data; None for encoded text, which has no lines
    there. unchecked: why the user-data could not be checked, or "". faults: errors in how the
    user-data writes the settings.
    """

    settings: str | None = None
    line_offset: int | None = None
    unchecked: str = ""
    faults: tuple[Fault, ...] = ()


def read(raw: bytes, name: str) -> UserData:
    """Find the settings in user-data. Raises Faults when cloud-init would not find them.

    Source: cloud-init's documentation, "User-data formats", and its module cc_write_files for
    the encodings.
    """
    for start, reason in _UNCHECKED:
        if raw.lstrip().startswith(start) or raw.startswith(start):
            return UserData(unchecked=reason)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Faults([Fault(name, (), line, "", "is not UTF-8 text", "save it as UTF-8")]) from None
    first = text.split("\n", 1)[0].rstrip()
    if first != "#cloud-config":
        message = "is not cloud-config, so cloud-init would ignore it"
        remedy = 'start it with the line "#cloud-config", or pass a settings file with --settings'
        raise Faults([Fault(name, (), 1, "", message, remedy)])
    document = load(text, name)
    if gap := template_gap(document, text):
        raise Faults([gap])
    if document.data is not None and not isinstance(document.data, dict):
        raise Faults([document.fault((), "is not a block of keys")])
    return _settings_entry(document, text)


def wrap(settings: str) -> bytes:
    """User-data that writes exactly this settings text to SETTINGS_PATH."""
    indented = "".join(f"      {line}" for line in settings.splitlines(keepends=True))
    readable = _user_data(f"    content: |\n{indented}")
    try:
        if read(readable, "user-data").settings == settings:
            return readable
    except Faults:
        pass
    # A literal block cannot represent every text: a leading blank, no newline at the end ...
    encoded = base64.b64encode(settings.encode()).decode()
    return _user_data(f"    encoding: b64\n    content: {encoded}\n")


def _user_data(content: str) -> bytes:
    return (
        "#cloud-config\n"
        "write_files:\n"
        f"  - path: {SETTINGS_PATH}\n"
        "    owner: root:root\n"
        '    permissions: "0600"\n' + content
    ).encode()


def _settings_entry(document: Document, text: str) -> UserData:
    files = (document.data or {}).get("write_files")
    found: UserData | None = None
    for position, entry in enumerate(files if isinstance(files, list) else []):
        if isinstance(entry, dict) and _is_settings_path(entry.get("path")):
            path = ("write_files", position)
            if found is not None:
                message = f"writes {SETTINGS_PATH} a second time"
                raise Faults([document.fault(path, message, remedy="keep one")])
            found = _entry(document, entry, position, text)
    return found or UserData()


def _is_settings_path(path: object) -> bool:
    """Whether an entry writes the settings, also when its path is not in its shortest form."""
    return isinstance(path, str) and "/" + posixpath.normpath(path).lstrip("/") == SETTINGS_PATH


def _entry(document: Document, entry: dict[str, Any], position: int, text: str) -> UserData:
    path = ("write_files", position)
    content = entry.get("content")
    encoding = str(entry.get("encoding") or "").strip().lower()
    faults = _entry_faults(document, entry, path)
    if encoding not in _ENCODINGS:
        message = f'is "{encoding}", which cloud-init does not know'
        faults.append(document.fault((*path, "encoding"), message, remedy="choose b64"))
        raise Faults(faults)
    if not isinstance(content, str):
        message = "is not text"
        fault = document.fault((*path, "content"), message, remedy="write content: |")
        raise Faults([*faults, fault])
    offset = None
    if encoding in ("", "text/plain"):
        offset = _offset(document, (*path, "content"), content, text)
    else:
        content = _decoded(document, content, (*path, "encoding"), *_ENCODINGS[encoding])
    return UserData(content, offset, faults=tuple(faults))


def _entry_faults(
    document: Document, entry: dict[str, Any], path: tuple[str | int, ...]
) -> list[Fault]:
    """Options that change the content, write it too late, or let other users read it."""
    faults = []
    if entry.get("append"):
        faults.append(
            document.fault((*path, "append"), "appends to the file", remedy="leave it out")
        )
    if entry.get("defer"):
        # cloud-init writes deferred files in its last stage, after mlflow-configure has run.
        faults.append(
            document.fault((*path, "defer"), "writes the file too late", remedy="leave it out")
        )
    permissions = entry.get("permissions")
    try:
        closed = isinstance(permissions, str) and not int(permissions, 8) & 0o077
    except ValueError:
        closed = False
    if not closed:
        # cloud-init's default is 0644, and the settings may contain secrets.
        message = "is missing" if permissions is None else "lets other users read the file"
        faults.append(
            document.fault((*path, "permissions"), message, remedy='write permissions: "0600"')
        )
    return faults


def _offset(document: Document, path: tuple[str | int, ...], content: str, text: str) -> int | None:
    """The number of user-data lines before the first line of the settings."""
    lines = text.splitlines()
    first = next((line for line in content.splitlines() if line.strip()), "").strip()
    blank = next((n for n, line in enumerate(content.splitlines()) if line.strip()), 0)
    for number in range(document.line(path) - 1, len(lines)):
        if first and lines[number].strip().endswith(first):
            return number - blank
    return None


def _decoded(
    document: Document, content: str, path: tuple[str | int, ...], is_base64: bool, is_gzip: bool
) -> str:
    try:
        raw = base64.b64decode(content) if is_base64 else content.encode("utf-8", "surrogateescape")
        if is_gzip:
            raw = _gunzip(raw)
        return raw.decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, OSError, EOFError, ValueError, zlib.error):
        message = "does not match the content, which cannot be decoded"
        raise Faults([document.fault(path, message, remedy="encode it again")]) from None


def _gunzip(raw: bytes) -> bytes:
    """Unpack at most one byte more than a document may have: small input can unpack to GBs."""
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
        return file.read(MAX_BYTES + 1)
