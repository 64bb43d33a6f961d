"""Files that a task writes where the user says: checked first, and nothing else is replaced."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow_image.errors import Refusal
from mlflow_image.paths import typed_path


def target(text: str, flag: str = "--out") -> Path:
    """The file that a flag names, behind links; raises Refusal if it cannot be written there."""
    path = typed_path(text).resolve()
    remedy = f"give another {flag}"
    if text.endswith("/") or path.is_dir():
        raise Refusal(f"{text} is a folder", remedy=f"{remedy}, with the name of a file")
    if path.exists() and not path.is_file():
        raise Refusal(f"{text} is not a regular file", remedy=remedy)
    if not path.parent.is_dir():
        raise Refusal(f"there is no folder {path.parent}", remedy=f"create it, or {remedy}")
    if not os.access(path.parent, os.W_OK):
        raise Refusal(f"you may not write to {path.parent}", remedy=remedy)
    return path


def refuse_other(path: Path, beginnings: tuple[bytes, ...], kind: str, flag: str = "--out") -> None:
    """Refuse to replace a file that does not begin as what is written there does."""
    if not path.exists():
        return
    with path.open("rb") as file:
        found = file.read(max(map(len, beginnings)))
    if found and not found.startswith(beginnings):
        raise Refusal(
            f"{path} exists and is not {kind}", remedy=f"give another {flag}, or remove the file"
        )
