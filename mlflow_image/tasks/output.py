"""Files that a task writes where the user says: checked first, and nothing else is replaced."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from mlflow_image.errors import Refusal
from mlflow_image.paths import typed_path


def target(text: str, flag: str = "--out") -> Path:
    """The file that a flag names, behind links; raises Refusal if it cannot be written there."""
    remedy = f"give another {flag}"
    if not text or "\0" in text:
        raise Refusal(f"{flag} names no file", remedy=remedy)
    try:
        path = typed_path(text).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise Refusal(f"{text} cannot be used: {error}", remedy=remedy) from error
    if text.endswith("/") or path.is_dir():
        raise Refusal(f"{text} is a folder", remedy=f"{remedy}, with the name of a file")
    if path.exists() and not path.is_file():
        raise Refusal(f"{text} is not a regular file", remedy=remedy)
    if not path.parent.is_dir():
        raise Refusal(f"there is no folder {path.parent}", remedy=f"create it, or {remedy}")
    if not os.access(path.parent, os.W_OK):
        raise Refusal(f"you may not write to {path.parent}", remedy=remedy)
    return path


def refuse_other(path: Path, beginning: bytes, kind: str, flag: str = "--out") -> None:
    """Refuse to replace a file that does not begin, unpacked, as what is written there does."""
    if not path.exists():
        return
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            found = file.read(len(beginning))
    except (OSError, EOFError, zlib.error):
        found = b"damaged"
    if found and not found.startswith(beginning):
        raise Refusal(
            f"{path} exists and is not {kind}", remedy=f"give another {flag}, or remove the file"
        )
