"""Where user-data writes files: document and line of each entry, and of the settings' text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from mlflow_image.server.cloud_init import Part
from mlflow_settings.userdata import is_settings_path


@dataclass(frozen=True)
class Place:
    """An entry of write_files.

    name: of the document in messages. lines: key of the entry -> its line there, counted from 1.
    settings_offset: add it to a line of the settings to get a line of the document; None when
    the text is not written out there. in_use: False for an entry of a key `write_files` that a
    later one in the same part replaces. settings: whether the entry writes the settings.
    """

    name: str
    part: int
    position: int
    line: int
    lines: Mapping[str, int]
    settings_offset: int | None
    in_use: bool
    settings: bool


def of(raw: bytes, parts: tuple[Part, ...], name: str) -> list[Place]:
    """Every entry, in the order of the parts; name: the user-data's file."""
    found: list[Place] = []
    for number, part in enumerate(parts):
        document, before = document_of(raw, part, name)
        lists = [] if part.bad_line else list(write_files_of(part.text))
        for node in lists:
            for position, entry in enumerate(node.value):
                place = place_of(entry, document, before, number, position, node is lists[-1])
                if place:
                    found.append(place)
    return found


def document_of(raw: bytes, part: Part, name: str) -> tuple[str, int]:
    """A part's name in messages, and the number of lines of the file before it."""
    at = -1 if part.jinja else raw.find(part.text.encode("utf-8", "surrogateescape"))
    return (name, raw.count(b"\n", 0, at)) if at >= 0 else (f"{name} ({part.name})", 0)


def write_files_of(text: str) -> Iterator[yaml.SequenceNode]:
    """Every list under a top-level key `write_files`; duplicate keys are possible."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        return
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if getattr(key, "value", None) == "write_files" and isinstance(value, yaml.SequenceNode):
            yield value


def place_of(
    entry: yaml.Node, document: str, before: int, part: int, position: int, in_use: bool
) -> Place | None:
    """The place of an entry; None for one that is not a block of keys."""
    if not isinstance(entry, yaml.MappingNode):
        return None
    values = {key.value: (key, value) for key, value in entry.value if key.id == "scalar"}
    lines = {key: node.start_mark.line + 1 + before for key, (node, _) in values.items()}
    _, path = values.get("path", (None, None))
    _, content = values.get("content", (None, None))
    offset = content_offset(content)
    return Place(
        name=document,
        part=part,
        position=position,
        line=entry.start_mark.line + 1 + before,
        lines=lines,
        settings_offset=None if offset is None else offset + before,
        in_use=in_use,
        settings=isinstance(path, yaml.ScalarNode) and is_settings_path(path.value),
    )


def content_offset(content: yaml.Node | None) -> int | None:
    """The number of lines before the first line of a text, if its lines are written out."""
    if not isinstance(content, yaml.ScalarNode):
        return None
    line = content.start_mark.line
    if content.style == "|":
        return int(line) + 1
    return int(line) if content.style is None and "\n" not in content.value else None
