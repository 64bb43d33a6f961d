"""Reads YAML documents as plain data with line numbers, and checks them against a JSON Schema.

The server settings and the image definition both use it, so their messages look the same:

    document = load(text, "settings.yaml")   # raises Faults: not YAML, a duplicate key, an alias
    faults = document.check(schema)          # every fault, in the order of the lines
    faults += [document.fault(("server", "port"), "is in use", remedy="choose another")]
    if faults:
        raise Faults(faults)
    document.data                            # only dict, list, str, int, float, bool, None

The schema is Draft 7 with two optional keywords of our own: `x-secret: true` (no message shows
this value or anything below it), and `x-remedy` (what to do when this value is refused).

This reader is stricter than PyYAML: no aliases, no tags, no duplicate keys. Only `true`, `false`,
`null`, decimal integers and decimal fractions are not text. So `yes`, `012` and `1:30` stay text,
and the schema's type check reports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from mlflow_settings import syntax
from mlflow_settings.wording import Path, SeveralLines, dotted, reworded, visible

__all__ = ["Document", "Fault", "Faults", "Path", "load"]

Plain: TypeAlias = Any

MAX_BYTES = 256 * 1024
# Levels of lists and blocks; counted here, because Python's own limit depends on the caller.
MAX_DEPTH = 40
# Values and keys of a document that is checked by a schema: `uniqueItems` compares each with each.
MAX_VALUES = 2000
# A list of more faults than this ends with their number.
MAX_FAULTS = 50
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_SURROGATE = re.compile("[\ud800-\udfff]")
_IMPOSSIBLE = re.compile(r"\\U(?!000|0010)[0-9A-Fa-f]{8}")
_END = re.compile(r"(?<!\\)\$")
_STANDARD_TAG = "tag:yaml.org,2002:"
_TEXT_TAG = _STANDARD_TAG + "str"
# The tags that PyYAML assigns to values without an explicit tag.
_OWN_TAGS = {
    _STANDARD_TAG + kind
    for kind in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value")
}


@dataclass(frozen=True)
class Fault:
    """One error in a document; its text is one line without secrets.

    name: the document's name in messages. path: keys and list positions. line: counted from 1.
    value: as shown in the message, "" when it is secret or absent.
    """

    name: str
    path: Path
    line: int
    value: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.name}:{self.line}: "
        what = f"{dotted(self.path)}: {self.message}" if self.path else self.message
        return visible(where + what + (f"; {self.remedy}" if self.remedy else ""))


class Faults(Exception):  # noqa: N818 - it holds several faults
    """A document is refused; `faults` lists its faults in the order of the lines.

    After MAX_FAULTS faults a last one says how many more there are.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        every = sorted(faults, key=lambda fault: fault.line)
        self.faults, rest = every[:MAX_FAULTS], every[MAX_FAULTS:]
        if rest:
            message = f"{len(rest)} more faults from here on are not shown"
            first = rest[0]
            self.faults.append(
                Fault(first.name, (), first.line, "", message, "correct these first")
            )
        super().__init__("\n".join(map(str, self.faults)))


@dataclass(frozen=True)
class Document:
    """A YAML document as plain data, with the first line of each path."""

    name: str
    data: Plain
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of a path, or of its nearest parent in the document."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, message: str, *, value: object = None, remedy: str = "") -> Fault:
        """A fault at a path. `message`, `value` and `remedy` must not contain secrets."""
        shown = "" if value is None else str(value)
        return Fault(self.name, path, self.line(path), shown, message, remedy)

    def check(self, schema: Mapping[str, Any], *, is_valid: bool = False) -> list[Fault]:
        """Every violation of a Draft 7 schema, in the order of the lines.

        is_valid: the schema was checked itself, which takes ten times as long as all the rest.
        Raises ValueError when the schema is invalid.
        """
        # Imported late: this takes 55 of the 70 ms of a check, and ten times as much in an
        # emulated guest.
        import jsonschema

        values = _count(self.data)
        if values > MAX_VALUES:
            message = f"has {values} values and keys, more than {MAX_VALUES}"
            return [self.fault((), message, remedy="shorten it")]
        validator = _validator(jsonschema)(dict(schema))
        try:
            if not is_valid:
                validator.check_schema(schema)
        except jsonschema.SchemaError as refused:
            message = f"the schema of {self.name} is not valid: {refused.message}"
            raise ValueError(message) from refused
        found: dict[tuple[Path, str], Fault] = {}
        for error in validator.iter_errors(self.data):
            for worded in reworded(error, schema):
                fault = self.fault(
                    worded.path, worded.message, value=worded.value, remedy=worded.remedy
                )
                found.setdefault((fault.path, fault.message), fault)
        return sorted(found.values(), key=lambda fault: (fault.line, dotted(fault.path)))


def load(text: str, name: str) -> Document:
    """Read YAML text; `name` is its name in messages. Raises Faults."""
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_BYTES:
        message = f"is {size_bytes} bytes long, more than {MAX_BYTES}"
        raise Faults([Fault(name, (), 1, str(size_bytes), message, "shorten it")])
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        line, message, remedy = syntax.explained(error, text)
        raise Faults([Fault(name, (), line, "", message, remedy)]) from None
    except RecursionError:
        raise Faults([_too_deep(name, 1)]) from None
    except (ValueError, OverflowError):
        # PyYAML passes the number of an escape to chr() unchecked.
        raise Faults([_impossible_escape(text, name)]) from None
    if node is None:
        return Document(name, None, {(): 1})
    reader = _Reader(name)
    data = reader.read(node, ())
    if reader.faults:
        raise Faults(reader.faults)
    return Document(name, data, reader.lines)


class _Reader:
    """Walks the composed nodes once and collects lines and faults."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {}
        self.faults: list[Fault] = []
        self._seen: set[int] = set()

    def read(self, node: yaml.Node, path: Path) -> Plain:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > MAX_DEPTH:
            raise Faults([_too_deep(self.name, node.start_mark.line + 1)])
        if id(node) in self._seen:
            self._refuse(node, path, "is an alias (*name)", "write the value out")
            return None
        self._seen.add(id(node))
        if node.tag not in _OWN_TAGS:
            self._refuse(node, path, "has a tag (!name)", "leave it out, or quote the text")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - YAML has only three kinds
        self._refuse_surrogates(node, path)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Plain]:
        data: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, path, "has a key that is not text", "write a text key")
                continue
            self._refuse_surrogates(key_node, path)
            key = str(key_node.value)
            below: Path = (*path, key)
            if key in data:
                first = self.lines[below]
                self._refuse(
                    key_node, below, f"is a duplicate key, first in line {first}", "keep one"
                )
                continue
            self.lines[below] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, below)
        return data

    def _refuse_surrogates(self, node: yaml.ScalarNode, path: Path) -> None:
        """Half of a surrogate pair is not a character: it cannot be printed or written."""
        if _SURROGATE.search(str(node.value)):
            message = "contains an escape for half of a character (\\ud800 to \\udfff)"
            self._refuse(node, path, message, "write the character itself, or \\U and 8 digits")

    def _refuse(self, node: yaml.Node, path: Path, message: str, remedy: str) -> None:
        line = node.start_mark.line + 1
        self.faults.append(Fault(self.name, path, line, "", message, remedy))


def _too_deep(name: str, line: int) -> Fault:
    message = f"is nested too deeply, more than {MAX_DEPTH} levels"
    return Fault(name, (), line, "", message, "use fewer levels")


def _impossible_escape(text: str, name: str) -> Fault:
    found = _IMPOSSIBLE.search(text)
    line = text.count("\n", 0, found.start()) + 1 if found else 1
    message = "contains an escape for a character that does not exist"
    return Fault(name, (), line, "", message, "the last character is \\U0010FFFF")


def _count(data: Plain) -> int:
    """How many values and keys there are."""
    count, waiting = 0, [data]
    while waiting:
        found = waiting.pop()
        count += 1
        if isinstance(found, dict):
            count += len(found)
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return count


def _validator(jsonschema: Any) -> Any:
    """Draft 7 with two readings that JSON Schema leaves to us.

    8000.0 is not an integer: MLflow could not parse it. `$` in a pattern is the end of the text
    only, as in ECMA 262; Python's `$` also accepts a line break before the end.
    """
    base = jsonschema.Draft7Validator

    def is_integer(_: object, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def pattern(validator: Any, wanted: str, value: object, _: object) -> Iterator[Any]:
        if validator.is_type(value, "string") and not re.search(
            _END.sub(r"\\Z", wanted), str(value)
        ):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted!r}")

    return jsonschema.validators.extend(
        base,
        validators={"pattern": pattern},
        type_checker=base.TYPE_CHECKER.redefine("integer", is_integer),
    )


def _scalar(node: yaml.ScalarNode) -> Plain:
    text = str(node.value)
    if node.style in ("'", '"') and node.start_mark.line != node.end_mark.line:
        return SeveralLines(text)
    if node.style is not None or node.tag == _TEXT_TAG:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    return text
