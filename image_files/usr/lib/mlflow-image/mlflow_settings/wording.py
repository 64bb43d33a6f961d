"""Turns a schema validator's errors into sentences with a remedy, and keeps secrets out of them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_CREDENTIALS = re.compile(r"//[^/\s]*@")
_TYPE_NAMES = {
    "object": "a block of keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty",
}


@dataclass(frozen=True)
class Worded:
    """One error in our words: where, what, the value as shown ("" for secrets), what to do."""

    path: Path
    message: str
    value: str
    remedy: str


def dotted(path: Path) -> str:
    """`server.allowed_hosts[0]`: a path as one reads it; keys that look odd are not repeated."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.fullmatch(part) else "(odd key)"
            text += f".{shown}" if text else shown
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean "port"?`, or the words there are when none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return "there is: " + ", ".join(words) if words else "nothing goes here"


def is_secret(path: Path, schema: Mapping[str, Any]) -> bool:
    """Whether `x-secret` is set on the schema of this path or of anything above it."""
    here: Any = schema
    for part in (*path, None):
        if not isinstance(here, Mapping):
            return False
        if here.get("x-secret"):
            return True
        here = _below(here, part)
    return False


def reworded(error: Any, schema: Mapping[str, Any]) -> Iterator[Worded]:
    """What one jsonschema ValidationError means; several for several unknown or missing keys."""
    path: Path = tuple(error.absolute_path)
    secret = is_secret(path, schema)
    own_remedy = error.schema.get("x-remedy", "") if isinstance(error.schema, Mapping) else ""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for key in sorted(set(error.instance) - set(known)):
            yield Worded((*path, key), "unknown key", "", "" if secret else nearest(key, known))
        return
    if error.validator == "required":
        for key in error.validator_value:
            if key not in error.instance:
                example = error.schema.get("properties", {}).get(key, {}).get("x-remedy", "")
                yield Worded((*path, key), "is missing", "", example or "add it")
        return
    value = "" if secret else shown(error.instance)
    message, remedy = _message(error, value)
    yield Worded(path, message, value, remedy or own_remedy)


def shown(value: object, limit: int = 60) -> str:
    """A value as YAML would show it, on one line, not longer than a screen line takes.

    What is inside lists and blocks is not repeated, nor the credentials of an address: where
    something else was expected, anything may stand.
    """
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a block of keys"
    text = _CREDENTIALS.sub("//(...)@", json.dumps(value, ensure_ascii=False))
    return text if len(text) <= limit else text[: limit - 3] + "..."


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
        near = difflib.get_close_matches(str(error.instance), words, n=1) if value else []
        choice = f'did you mean "{near[0]}"?' if near else "choose one of " + ", ".join(words)
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
