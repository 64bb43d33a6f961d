"""What cloud-init reports about this boot, as lines for the console.

Its messages quote user-data, which may hold secrets: only what is known to be free of values is
repeated. Source: cloud-init's documentation of /run/cloud-init/status.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATUS = Path("run/cloud-init/status.json")
SSHD = Path("etc/ssh/sshd_config.d/50-cloud-init.conf")
LOG = "/var/log/cloud-init.log"
MAX_LINES = 10

# What is repeated of a message; the rest of it may quote the user-data.
_REPEATED = (
    (
        r"\('(\w+)', .*Unknown user or group: .*name not found: [\\']*([\w.-]{1,64})",
        "the module {} failed: there is no user or group {} yet",
    ),
    (r"\('(\w+)', *(\w+)\(", "the module {} failed with {}"),
    (r"Running module (\w+) .* failed", "the module {} failed"),
    (
        r"Failed loading yaml blob\. Invalid format at line (\d+) column (\d+)",
        "the user-data is not YAML in line {}, column {}",
    ),
    (r"Failed at merging in cloud config part from ([\w.-]{1,64})", "the part {} was ignored"),
    (
        r"Unhandled (?:non-multipart|unknown content-type) \(([\w./-]{1,64})\)",
        "user-data of the kind {} was ignored",
    ),
    (r"Unknown encoding type ([\w+-]{1,32})", "the encoding {} is unknown"),
    (
        r"cloud-config failed schema validation|Invalid cloud-config provided",
        "the user-data does not fit its schema: run `sudo cloud-init schema --system`",
    ),
)
_PASSWORDS = re.compile(r"^\s*PasswordAuthentication\s+yes\b", re.MULTILINE | re.IGNORECASE)


def lines(root: Path) -> tuple[str, ...]:
    """What the console should say about cloud-init in this boot; may be empty."""
    return (*errors(root), *ignored_passwords(root))


def errors(root: Path) -> tuple[str, ...]:
    """cloud-init's errors and warnings of this boot, one line each, without values."""
    try:
        status = json.loads((root / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    found: list[str] = []
    for line in map(_line, _messages(status)):
        # A failed module is reported twice, the second time without its reason.
        if not any(known.startswith(line) for known in found):
            found.append(line)
    return tuple(f"cloud-init: {line} (see {LOG})" for line in found[:MAX_LINES])


def ignored_passwords(root: Path) -> tuple[str, ...]:
    """A line when user-data asked sshd for passwords, which this image does not accept."""
    try:
        asked = _PASSWORDS.search((root / SSHD).read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()
    return ("ssh_pwauth has no effect: sshd accepts keys only",) if asked else ()


def _messages(status: Any) -> Iterator[str]:
    stages = status.get("v1") if isinstance(status, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        if isinstance(stage, dict):
            yield from map(str, stage.get("errors") or ())
            recoverable = stage.get("recoverable_errors")
            for level in ("CRITICAL", "ERROR", "WARNING"):
                found = recoverable.get(level) if isinstance(recoverable, dict) else None
                yield from map(str, found if isinstance(found, list) else ())


def _line(message: str) -> str:
    for form, shown in _REPEATED:
        if known := re.search(form, message):
            return shown.format(*known.groups())
    return "a warning that may contain values of the user-data"
