"""Which Python distribution carries the environment: Anaconda's pinned one, or the system's.

`auto` is decided once per checkout and recorded, so that a network that comes and goes
does not change what an image is made of. A chosen distribution that then fails is an
error of its own; nothing here falls back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import yaml

from mlflow_image import paths
from mlflow_image.errors import Failure, Refusal

INSTALLERS = paths.HERE.locks / "installers.yaml"
RECORD = paths.HERE.state / "python-distribution.json"
#: The installer's name on the build disc; scripts/guest/anaconda.sh starts it.
NAME_ON_DISC = "anaconda-installer.sh"
CHOICES = ("auto", "anaconda", "system")
#: Long enough for a slow proxy, short enough for a host behind a firewall that drops.
ANSWER_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Installer:
    """A pinned installer; the sizes are about, in bytes."""

    version: str
    python: str
    file: str
    url: str
    sha256: str
    size_bytes: int
    installed_bytes: int
    terms: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def name(self) -> str:
        return f"Anaconda {self.version}"


@dataclass(frozen=True)
class Decision:
    """A Python distribution (`anaconda` or `system`), why, and what taking it means."""

    choice: str
    reason: str
    size_bytes: int
    terms: str
    date: str

    def __str__(self) -> str:
        size = f", about {self.size_bytes / 1e9:.1f} GB to fetch" if self.size_bytes else ""
        terms = f". {self.terms}" if self.terms else ""
        day = f"on {self.date[:10]}: " if self.date else ""
        return f"Python distribution: {self.choice} ({day}{self.reason}{size}){terms}"


def read_installer(file: Path | None = None) -> Installer:
    """The pinned Anaconda installer; raises Failure naming the file when it is malformed.

    MLFLOW_IMAGE_INSTALLERS names another file of pins: a mirror inside a company, or the
    stand-in of the tests.
    """
    file = file or Path(os.environ.get("MLFLOW_IMAGE_INSTALLERS") or INSTALLERS)
    try:
        return Installer(**yaml.safe_load(file.read_text())["anaconda"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise Failure(f"{file} does not pin an Anaconda installer: {error!r}") from error


def decide(
    asked: str,
    installer: Installer,
    *,
    has: Callable[[str], bool],
    offline: bool = False,
    why_no_answer: Callable[[str], str] | None = None,
    record: Path = RECORD,
) -> Decision:
    """What `python.distribution` means here and now; the record is written when it changes.

    asked: auto, anaconda or system; all but auto are an explicit choice, which the record
    keeps for later. has: whether the store holds a file of this sha256. why_no_answer: why
    a URL cannot be fetched, empty when it can (asked only if nothing else decides).

    Raises Refusal for another `asked`, Failure for a record that cannot be read.
    """
    if asked not in CHOICES:
        raise Refusal(f"python.distribution: {asked}", remedy=f"one of {', '.join(CHOICES)}")
    before = read(record)
    if asked == "auto" and before:
        return before
    if asked == "auto":
        choice, reason = look(installer, has, offline, why_no_answer or why_not_fetched)
    else:
        choice, reason = asked, "asked for"
    if before and before.choice == choice:
        return before
    taken = choice == "anaconda"
    decision = Decision(
        choice=choice,
        reason=reason,
        size_bytes=installer.size_bytes if taken else 0,
        terms=installer.terms if taken else "",
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    write(decision, record)
    return decision


def look(
    installer: Installer,
    has: Callable[[str], bool],
    offline: bool,
    why_no_answer: Callable[[str], str],
) -> tuple[str, str]:
    """Choice and reason of `auto`, from the store and, unless offline, the network."""
    if has(installer.sha256):
        return "anaconda", f"{installer.name} is in the store"
    if offline:
        return "system", f"{installer.name} is not in the store, and --offline asks no network"
    if why := why_no_answer(installer.url):
        return "system", f"{installer.name} is not in the store, and {installer.host} {why}"
    return "anaconda", f"{installer.host} offers {installer.file}"


def why_not_fetched(url: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """Why nothing can be fetched from this URL, to follow its host's name; empty when it can."""
    try:
        answer = requests.head(url, timeout=timeout_s, allow_redirects=True)
    except requests.Timeout:
        return f"does not answer within {timeout_s:g} s"
    except requests.RequestException as error:
        return f"cannot be reached ({type(error).__name__})"
    return "" if answer.status_code == 200 else f"answers with status {answer.status_code}"


def forget(record: Path = RECORD) -> None:
    """Let the next `auto` decide anew; `invoke lock` does this."""
    record.unlink(missing_ok=True)


def read(record: Path = RECORD) -> Decision | None:
    """The recorded decision; None when there is none yet."""
    if not record.exists():
        return None
    try:
        document = json.loads(record.read_text())
        document.pop("schema_version")
        decision = Decision(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failure(
            f"{record} is damaged: {error}", remedy="remove it, and `auto` decides anew"
        ) from error
    if decision.choice not in CHOICES[1:]:
        raise Failure(f"{record} names an unknown choice: {decision.choice}", remedy="remove it")
    return decision


def write(decision: Decision, record: Path) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    beside = record.with_suffix(".new")
    beside.write_text(json.dumps({"schema_version": 1, **asdict(decision)}, indent=2) + "\n")
    beside.replace(record)
