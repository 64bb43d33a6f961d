"""The console lines by which a guest reports to its host: how to write and how to find them."""

from __future__ import annotations

import re

# The host reads these lines from the serial console. A changed text breaks `invoke up` for
# images that are already built, so keep the texts as they are.
NO_SERVER = "the server does not start"
# The journal puts a time, a unit name and a process id before each line.
READY = re.compile(r"\bmlflow-ready (https?://\S+)")
# From mlflow-configure, and from server-has-ended.
REPORT = re.compile(r"^.*?\bmlflow-(?:configure|tracking): (.*)$", re.MULTILINE)

# Of mlflow-configure, about a password that the machine has made.
_FIRST_PASSWORD = re.compile(r"^the first password of (.+): (sudo cat \S+)$")

# The launcher's own lines about its stores (mlflow_launch/stores).
STORES = ("database", "artifact store", "the stores could not")
STORES_REACHED = "the stores can be reached again"


def ready_line(url: str) -> str:
    """The line for a server that answers at `url`; the script server-is-ready prints it."""
    return f"mlflow-ready {url}"


def configure_line(message: str) -> str:
    """One line of mlflow-configure's report."""
    return f"mlflow-configure: {message}"


def no_server(reason: str) -> str:
    """The message of mlflow-configure when no settings are in force."""
    return f"{NO_SERVER}: {reason}"


def first_password(name: str, path: str) -> str:
    """How to read a password that the machine has made."""
    return f"the first password of {name}: sudo cat {path}"


def made_password(text: str) -> tuple[str, str] | None:
    """The user whose password the machine has made, and the command that shows it, or None."""
    found = [match for line in report_lines(text) if (match := _FIRST_PASSWORD.match(line))]
    return (found[-1][1], found[-1][2]) if found else None


def ready_url(text: str) -> str | None:
    """The last address that a ready line in the console text names, or None."""
    found = READY.findall(text)
    return str(found[-1]) if found else None


def report_lines(text: str) -> list[str]:
    """The guest's messages in the console text, each once."""
    return [line.rstrip("\r") for line in dict.fromkeys(REPORT.findall(text))]


def store_trouble(text: str) -> str:
    """What the guest said last of a store that it cannot use; "" when it can use them all."""
    said = [line.rstrip("\r") for line in REPORT.findall(text)]
    of_stores = [line for line in said if line.startswith(STORES) or line == STORES_REACHED]
    return "" if not of_stores or of_stores[-1] == STORES_REACHED else of_stores[-1]


def refused_settings(text: str) -> list[str]:
    """The guest's messages if the server does not start and does not try again, else [].

    Refused settings do not stop the server when earlier good ones stay in force.
    """
    lines = report_lines(text)
    return lines if any(line.startswith(NO_SERVER) for line in lines) else []
