"""Rewrites the errors of a schema validator as messages with a remedy and without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
# Up to the last @: a password may contain / and @. Without a scheme, a : tells it from an address.
_CREDENTIALS = re.compile(r'(//).*@|(^")(?!.*://).*:.*@')
_QUERY = re.compile(r'(//[^\s?"]*\?).+')
_NAMED = re.compile(r"((?:password|passwd|pwd|secret|token|key)=).+", re.IGNORECASE)
# A longer text is not shown at all: nobody could read it, and looking for secrets takes long.
_LONGEST = 2000
_TYPE_NAMES = {
    "object": "a block of keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


class SeveralLines(str):
    """A text that takes several lines of its document: a quote left open takes in what follows."""

    __slots__ = ()


class Reason(NamedTuple):
    """Why a value is refused, and what to do."""

    message: str
    remedy: str


@dataclass(frozen=True)
class Worded:
    """One error as a message. path: where. value: as shown to people, "" for secrets."""

    path: Path
    message: str
    value: str
    remedy: str


def dotted(path: Path) -> str:
    """A path as text, such as `server.allowed_hosts[0]`; unusual keys are not repeated."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.fullmatch(part) else "(unusual key)"
            text += f".{shown}" if text else shown
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion such as `did you mean "port"?`, or all known words if none is similar."""
    words = sorted(known)
    if close := _most_similar(word, words):
        return f'did you mean "{close}"?'
    return "known keys: " + ", ".join(words) if words else "remove it: no key is allowed here"


def is_secret(path: Path, schema: Mapping[str, Any]) -> bool:
    """Whether the schema sets `x-secret` for this path or for one of its parents."""
    return _secret_at(path, schema) is not None


def public(path: Path, schema: Mapping[str, Any]) -> Path:
    """A path up to its secret part: a key below may be the secret itself, in braces."""
    return path[: _secret_at(path, schema)]


def _secret_at(path: Path, schema: Mapping[str, Any]) -> int | None:
    """How many parts of a path lead to the one for which the schema sets `x-secret`."""
    here: Any = schema
    for count, part in enumerate((*path, None)):
        if not isinstance(here, Mapping):
            return None
        if here.get("x-secret"):
            # Names of variables are public; a block in place of a text is the secret itself.
            return count + (here.get("type") == "object")
        here = _below(here, part)
    return None


def reworded(error: Any, schema: Mapping[str, Any]) -> Iterator[Worded]:
    """The messages for one jsonschema ValidationError: one for each unknown or missing key."""
    path: Path = tuple(error.absolute_path)
    secret = is_secret(path, schema)
    own_remedy = error.schema.get("x-remedy", "") if isinstance(error.schema, Mapping) else ""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        if secret:
            yield Worded(public(path, schema), "is a block with unknown keys", "", own_remedy)
            return
        for key in sorted(set(error.instance) - set(known)):
            yield Worded((*path, key), "unknown key", "", nearest(key, known))
        return
    if error.validator == "required":
        if secret and set(error.instance) - set(error.schema.get("properties", {})):
            return  # its unknown keys are the fault
        for key in error.validator_value:
            if key not in error.instance:
                example = error.schema.get("properties", {}).get(key, {}).get("x-remedy", "")
                yield Worded((*path, key), "is missing", "", example or "add it")
        return
    value = "" if secret else shown(error.instance)
    message, remedy = _message(error, value)
    yield Worded(path, message, value, remedy or own_remedy)


def shown(value: object, limit: int = 60) -> str:
    """A value in YAML's notation, on one line of at most `limit` characters.

    Leaves out the content of lists, blocks and texts of several lines, and the credentials and
    the query of a URL: a value in the wrong place may contain a secret.
    """
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, SeveralLines) or (isinstance(value, str) and "\n" in value.strip("\n")):
        return "a text of several lines"
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _LONGEST:
        return "a long text"
    text = _CREDENTIALS.sub(r"\1\2(...)@", text)
    text = visible(_NAMED.sub(r'\1(...)"', _QUERY.sub(r'\1(...)"', text)))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def visible(text: str) -> str:
    """Text from elsewhere on one line of a terminal: each invisible character as its escape.

    Controls, line separators, marks that change the direction of writing, and surrogates.
    Every foreign text is printed through here. Source: Unicode Standard Annex 44, categories.
    """
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def _most_similar(word: str, words: list[str]) -> str:
    """The known word that is probably meant, or ""."""
    import difflib  # here: a boot with valid settings does not need it

    return "".join(difflib.get_close_matches(word, words, n=1, cutoff=0.6))


def _below(schema: Mapping[str, Any], part: str | int | None) -> Any:
    if isinstance(part, str):
        known = schema.get("properties", {})
        return known[part] if part in known else schema.get("additionalProperties")
    return schema.get("items") if isinstance(part, int) else None


def _message(error: Any, value: str) -> tuple[str, str]:
    it_is = f"is {value}, " if value else "is "
    if error.instance is None:
        it_is = "is empty, "
    wanted = error.validator_value
    if error.validator == "type":
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        kind = " or ".join(_TYPE_NAMES.get(name, name) for name in names)
        quoting = isinstance(error.instance, (bool, int, float)) and names == ["string"]
        return f"{it_is}not {kind}", "put it in quotes" if quoting else ""
    if error.validator == "const":
        return f"{it_is}not {shown(wanted)}", ""
    if error.validator == "enum":
        words = [str(word) for word in wanted]
        near = _most_similar(str(error.instance), words) if value else ""
        choice = f'did you mean "{near}"?' if near else "choose one of " + ", ".join(words)
        return f"{it_is}not one of the choices", choice
    if error.validator == "uniqueItems":
        return "has an entry twice", "keep one"
    limits = {
        "minimum": f"{it_is}less than {wanted}",
        "maximum": f"{it_is}more than {wanted}",
        "minLength": "is empty" if error.instance == "" else f"{it_is}too short",
        "maxLength": f"is longer than {wanted} characters",
        "minItems": "is an empty list" if error.instance == [] else "has too few entries",
        "maxItems": f"has more than {wanted} entries",
        "minProperties": "is empty",
    }
    if error.validator in limits:
        return limits[error.validator], ""
    return f"{it_is}not what is expected here", ""
