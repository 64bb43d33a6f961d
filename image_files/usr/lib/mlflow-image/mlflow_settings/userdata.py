"""Wraps settings as user-data, and knows their path in it; used on the host."""

from __future__ import annotations

import base64
import posixpath
import re

import yaml

SETTINGS_PATH = "/etc/mlflow/settings.yaml"
# Links of the kernel that lead back to the root folder.
_ROOT_LINK = re.compile(r"^/proc/(?:self|thread-self|[0-9]+)/(?:root|cwd)(?=/)")


def wrap(settings: str) -> bytes:
    """User-data that writes exactly this settings text to SETTINGS_PATH."""
    indented = "".join(f"      {line}" for line in settings.splitlines(keepends=True))
    readable = _user_data(f"    content: |\n{indented}")
    try:
        if unwrap(readable) == settings:
            return readable
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, KeyError):
        pass
    # A literal block cannot represent every text: a leading blank, no newline at the end ...
    encoded = base64.b64encode(settings.encode()).decode()
    return _user_data(f"    encoding: b64\n    content: {encoded}\n")


def unwrap(raw: bytes) -> str:
    """The settings in user-data that `wrap` made, or in a ready-made file of this project."""
    entry = yaml.safe_load(raw)["write_files"][0]
    content = str(entry["content"])
    return base64.b64decode(content).decode() if entry.get("encoding") else content


def is_settings_path(path: object) -> bool:
    """Whether an entry of write_files writes the settings, also when its path is not in its
    shortest form. Links that commands of the user-data make cannot be seen."""
    if not isinstance(path, str):
        return False
    short = "/" + posixpath.normpath(path).lstrip("/")
    return _ROOT_LINK.sub("", short) == SETTINGS_PATH


def _user_data(content: str) -> bytes:
    return (
        "#cloud-config\n"
        "write_files:\n"
        f"  - path: {SETTINGS_PATH}\n"
        "    owner: root:root\n"
        '    permissions: "0600"\n' + content
    ).encode()
