"""Judges what cloud-init does with user-data: do the settings arrive, and which ones?"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace

from mlflow_image.server import places
from mlflow_image.server.cloud_init import Part, Reading, Write
from mlflow_image.server.places import Place
from mlflow_settings.document import Fault, Faults, load
from mlflow_settings.userdata import SETTINGS_PATH, is_settings_path

MERGE = "merge_how: list(append)+dict(recurse_list)+str()"
#: cloud-init's words for what we report ourselves, with a line and a remedy.
OURS = (
    *("Failed loading yaml blob", "Unknown encoding type", "Failed at merging", "Unhandled "),
    "Could not render jinja",
)


@dataclass(frozen=True)
class Found:
    """The settings that arrive. text: None if there are none that could be read here.

    name, offset: the document of the settings' faults, and the number of its lines before them.
    certain: whether the VM gets exactly this text. unchecked: why the settings could not be
    checked, or "". faults: why they do not arrive, or not as they should. warnings: the rest.
    """

    text: str | None
    name: str
    offset: int
    certain: bool
    unchecked: str
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


def judge(raw: bytes, reading: Reading, name: str) -> Found:
    """What arrives as settings from user-data; name: its file, for messages."""
    known = places.of(raw, reading.parts, name)
    writes = [write for write in reading.writes if is_settings_path(write.path)]
    found = [place_of(reading, write.entry, known, name) for write in writes]
    faults = [*part_faults(raw, reading, name), *whole_faults(reading, name)]
    fatal = fatal_errors(reading, writes, known, name)
    faults += [write_error(entry, reading.errors[entry], place) for entry, place in fatal.items()]
    if None not in fatal:
        told = (*found, *fatal.values())
        faults += [lost(place) for place in known if place.settings and place not in told]
    for write, place in zip(writes, found, strict=True):
        faults += entry_faults(reading, write, place)
    faults += [
        at(place, "path", f"writes {SETTINGS_PATH} a second time", "keep one")
        for place in found[1:]
    ]
    text, name_inside, offset = None, name, 0
    certain = not reading.unread and not reading.commands
    if writes:
        write, place, entry = writes[-1], found[-1], reading.entries[writes[-1].entry]
        try:
            text = write.content.decode("utf-8")
        except UnicodeDecodeError:
            faults.append(at(place, "content", "is not UTF-8 text", "save it as UTF-8"))
        plain = entry.encoding in ("", "text/plain") and place.settings_offset is not None
        name_inside = place.name if plain else f"{SETTINGS_PATH} in {name}"
        offset = place.settings_offset or 0 if plain else 0
        certain &= entry.part is None or not reading.parts[entry.part].jinja
    unchecked = why_unchecked(reading, writes, text)
    return Found(
        text=None if unchecked else text,
        name=name_inside,
        offset=offset,
        certain=certain,
        unchecked=unchecked,
        faults=tuple(faults),
        warnings=tuple(warnings(reading, fatal)),
    )


def place_of(reading: Reading, number: int | None, known: list[Place], name: str) -> Place:
    """The place of an entry of the merged list; the document's first line if it has none."""
    if number is not None:
        entry = reading.entries[number]
        for place in known:
            if place.in_use and (place.part, place.position) == (entry.part, entry.position):
                return place
    return Place(name, 0, number or 0, 1, {}, None, in_use=True, settings=False)


def whole_faults(reading: Reading, name: str) -> Iterator[Fault]:
    """What makes cloud-init ignore all of the user-data, or write no file."""
    if reading.failure:
        yield Fault(name, (), 1, "", f"cannot be read by cloud-init: {reading.failure}", "")
    elif not (reading.parts or reading.scripts or reading.unread):
        message = "is not cloud-config, so cloud-init would ignore it"
        remedy = 'start it with the line "#cloud-config", or pass a settings file with --settings'
        yield Fault(name, (), 1, "", message, remedy)
    if reading.missing_modules:
        message = "is a list without write_files, so no file would be written"
        yield Fault(name, ("cloud_init_modules",), 1, "", message, "leave it out")


def why_unchecked(reading: Reading, writes: list[Write], text: str | None) -> str:
    """Why the settings that arrive are not known here, or ""."""
    if any(reading.entries[write.entry].url for write in writes):
        return "its settings come from a URL"
    if text is not None and reading.missing and "CI_MISSING_JINJA_VAR/" in text:
        names = ", ".join(reading.missing)
        return f"it is a Jinja template with variables that only the machine knows: {names}"
    if not writes and reading.unread:
        return " and ".join(dict.fromkeys(reading.unread))
    if not writes and reading.scripts and not reading.parts:
        return "it is a script"
    return ""


def part_faults(raw: bytes, reading: Reading, name: str) -> Iterator[Fault]:
    """The cloud-config parts that cloud-init ignores, because of their syntax."""
    for part in reading.parts:
        if part.bad_line:
            document, before = places.document_of(raw, part, name)
            message = "is not valid Jinja, so cloud-init would ignore the template"
            yield Fault(document, (), part.bad_line + before, "", message, "correct its syntax")
        elif part.broken:
            document, before = places.document_of(raw, part, name)
            for fault in yaml_faults(part, document):
                yield replace(fault, line=fault.line + before)


def yaml_faults(part: Part, document: str) -> list[Fault]:
    if no_utf8 := re.search("[\udc80-\udcff]", part.text):
        line = part.text.count("\n", 0, no_utf8.start()) + 1
        return [Fault(document, (), line, "", "is not UTF-8 text", "save it as UTF-8")]
    try:
        load(part.text, document)
    except Faults as refused:
        return refused.faults
    message = "is not a block of keys, so cloud-init would ignore it"
    return [Fault(document, (), 1, "", message, "write keys, such as write_files:")]


def fatal_errors(
    reading: Reading, writes: list[Write], known: list[Place], name: str
) -> dict[int | None, Place]:
    """The entries of write_files that fail and take the settings with them; None is all of it."""
    last = max((write.entry for write in writes), default=-1)
    found = {}
    for entry in reading.errors:
        place = place_of(reading, entry, known, name)
        settings = any(one.settings for one in known) if entry is None else place.settings
        if settings or (entry is not None and entry <= last):
            found[entry] = place
    return found


def write_error(entry: int | None, error: str, place: Place) -> Fault:
    path = ("write_files",) if entry is None else ("write_files", place.position)
    return Fault(place.name, path, place.line, "", *entry_error(entry, error))


def entry_error(entry: int | None, error: str) -> tuple[str, str]:
    """What an entry's error means, and what to do."""
    lost = "no file" if entry is None else "no file after it"
    message = f"fails in cloud-init, which then writes {lost}: {error}"
    if error.startswith("Unknown user or group"):
        return message, "add `defer: true` (users are created later), or use root:root"
    return message, "correct it"


def lost(place: Place) -> Fault:
    message = f"writes {SETTINGS_PATH}, but a later write_files replaces this one"
    remedy = f"use one list, or add `{MERGE}` to the later part"
    return at(place, "path", message, remedy)


def at(place: Place, key: str, message: str, remedy: str) -> Fault:
    """A fault at a key of an entry, or at the entry if it has no such key."""
    line = place.lines.get(key, place.line)
    return Fault(place.name, ("write_files", place.position, key), line, "", message, remedy)


def entry_faults(reading: Reading, write: Write, place: Place) -> Iterator[Fault]:
    """Options that change the content, write it too late, or let other users read it."""
    entry = reading.entries[write.entry]
    if write.append:
        yield at(place, "append", "appends to the file", "leave it out")
    if write.late:
        # cloud-init writes deferred files in its last stage, after mlflow-configure has run.
        yield at(place, "defer", "writes the file too late", "leave it out")
    if write.mode & 0o077:
        # cloud-init's default is 0644, and the settings may contain secrets.
        message = "lets other users read the file" if entry.permissions else "is missing"
        yield at(place, "permissions", message, 'write permissions: "0600"')
    if any("Unknown encoding type" in message for message in reading.messages) and (
        entry.encoding not in KNOWN_ENCODINGS
    ):
        message = f'is "{entry.encoding}", which cloud-init does not know'
        yield at(place, "encoding", message, "choose b64")
    if not entry.text and not entry.url:
        yield at(place, "content", "is not text", "write content: |")


#: Source: cloud-init's cc_write_files; it takes any other encoding as text, with a warning.
KNOWN_ENCODINGS = {
    *("", "text/plain", "b64", "base64", "gz", "gzip"),
    *("gz+b64", "gzip+b64", "gz+base64", "gzip+base64"),
}


def warnings(reading: Reading, fatal: Container[int | None]) -> Iterator[str]:
    """What does not keep the settings from arriving, but may not do what was meant."""
    for entry, error in reading.errors.items():
        if entry not in fatal:
            message, remedy = entry_error(entry, error)
            where = "write_files" + ("" if entry is None else f"[{entry}]")
            yield f"{where}: {message}; {remedy}"
    for where in reading.commands:
        yield (
            f"{where} names /etc/mlflow: what it changes there takes effect only after "
            "`mlflow-configure --apply`, and is not checked here"
        )
    if reading.ssh_pwauth:
        yield "ssh_pwauth has no effect: the image's sshd accepts keys only"
    yield from (f"cloud-init's schema: {problem}" for problem in reading.schema)
    own = (message for message in reading.messages if not message.startswith(OURS))
    yield from (f"cloud-init says: {message}" for message in own)
