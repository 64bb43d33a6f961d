"""The rules for paths in the settings: the server writes below one directory only."""

from __future__ import annotations

import posixpath
import re

from mlflow_settings.blocks.block import Given
from mlflow_settings.wording import Reason, shown

STATE_DIRECTORY = "/var/lib/mlflow"
# A name has at most 255 bytes (ext4, XFS); SQLite appends up to 12 to that of a database. A path
# has at most 4096 bytes, of which artifacts need the most.
MAX_NAME = 200
MAX_PATH = 1000

_CHARACTERS = re.compile(r"[A-Za-z0-9._/-]+")


def state_path_fault(path: str) -> Reason | None:
    """Why a path is not a normalized one below STATE_DIRECTORY, or None."""
    example = f"write a path such as {STATE_DIRECTORY}/name"
    normalized = posixpath.normpath(path)
    if not path.startswith("/"):
        return Reason(f"is {shown(path)}, not an absolute path", example)
    if not _CHARACTERS.fullmatch(path):
        return Reason(f"is {shown(path)}, a path with unusual characters", example)
    if not normalized.startswith(STATE_DIRECTORY + "/"):
        message = f"is {shown(path)}, where the server cannot write"
        return Reason(message, f"choose a path below {STATE_DIRECTORY}")
    if len(path) > MAX_PATH or any(len(part) > MAX_NAME for part in path.split("/")):
        limits = f"a path has at most {MAX_PATH} characters, a name in it {MAX_NAME}"
        return Reason(f"is {shown(path)}, which is too long", limits)
    if normalized != path:
        return Reason(f"is {shown(path)}, not a normalized path", f"write {normalized}")
    return None


def valid_state_path(given: Given, key: str, default: str) -> str | None:
    """The path at `key`, or the default where none is written; None when it breaks the rule."""
    path = given.get(key, default)
    return path if isinstance(path, str) and not state_path_fault(path) else None


def overlap(one: str, other: str) -> bool:
    """Whether two normalized paths are the same, or one contains the other."""
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or longer.startswith(shorter + "/")
