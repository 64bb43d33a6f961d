"""Which Python distribution the environment uses: the pinned Anaconda, or the system's Python.

`auto` is decided once per checkout and recorded, so that a network that is down for a while
does not change what an image contains. When the chosen distribution fails later, the build
fails: there is no fallback.
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

from mlflow_image import files
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import download
from mlflow_image.inputs.kind import Item, Kind
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step, human_bytes

#: The installer's name on the build disc; scripts/guest/anaconda.sh starts it.
NAME_ON_DISC = "anaconda-installer.sh"
CHOICES = ("auto", "anaconda", "system")
#: Long enough for a slow proxy, short enough for a firewall that drops packets.
ANSWER_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Installer:
    """A pinned installer; the sizes are approximate."""

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
class InstallerFile(Kind):
    """The installer as an input."""

    installer: Installer

    def items(self) -> list[Item]:
        return [Item(self.installer.file, self.installer.sha256, self.installer.size_bytes)]

    def title(self, missing: list[Item]) -> str:
        return self.installer.name

    def fetch(self, step: Step) -> None:
        installer = self.installer
        self.store.fetch(installer.url, installer.sha256, installer.file, step.bytes_of)


@dataclass(frozen=True)
class Decision:
    """The Python distribution (`anaconda` or `system`), the reason, download size and terms."""

    choice: str
    reason: str
    size_bytes: int
    terms: str
    date: str

    def __str__(self) -> str:
        size = f", about {human_bytes(self.size_bytes)} to download" if self.size_bytes else ""
        terms = f". {self.terms}" if self.terms else ""
        day = f"since {self.date[:10]}: " if self.date else ""
        return f"Python distribution: {self.choice} ({day}{self.reason}{size}){terms}"


def read_installer(checkout: Checkout = HERE) -> Installer:
    """The pinned Anaconda installer.

    MLFLOW_IMAGE_INSTALLERS names another file of pins: for a company's mirror, or for the
    tests' stand-in. Raises Failure naming the file when it is malformed.
    """
    chosen = os.environ.get("MLFLOW_IMAGE_INSTALLERS")
    file = Path(chosen) if chosen else checkout.locks / "installers.yaml"
    try:
        return Installer(**yaml.safe_load(file.read_text())["anaconda"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise Failure(
            f"{file} does not pin an Anaconda installer: {error!r}",
            remedy="compare it with locks/installers.yaml of this project",
        ) from error


def decide(
    requested: str,
    installer: Installer,
    *,
    has: Callable[[str], bool],
    offline: bool = False,
    why_unavailable: Callable[[str], str] | None = None,
    checkout: Checkout = HERE,
) -> Decision:
    """Resolve `python.distribution`; the decision is recorded in the checkout when it changes.

    requested: auto, anaconda or system. An explicit choice also becomes the record, which a
    later `auto` follows. has: whether the store has a file with this sha256. why_unavailable:
    see `why_not_fetched`; called only when nothing else decides.

    Raises Refusal for an unknown value, Failure for a record that cannot be read.
    """
    if requested not in CHOICES:
        raise Refusal(
            f"python.distribution: unknown value {requested}",
            remedy=f"choose one of {', '.join(CHOICES)}",
        )
    before = recorded(checkout)
    if requested == "auto" and before:
        return before
    if requested == "auto":
        choice, reason = choose(installer, has, offline, why_unavailable or why_not_fetched)
    else:
        choice, reason = requested, "requested"
    if before and before.choice == choice:
        return before
    needs_installer = choice == "anaconda"
    decision = Decision(
        choice=choice,
        reason=reason,
        size_bytes=installer.size_bytes if needs_installer else 0,
        terms=installer.terms if needs_installer else "",
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    record = record_file(checkout)
    record.parent.mkdir(parents=True, exist_ok=True)
    document = {"schema_version": 1, **asdict(decision)}
    files.write(record, json.dumps(document, indent=2) + "\n")
    return decision


def choose(
    installer: Installer,
    has: Callable[[str], bool],
    offline: bool,
    why_unavailable: Callable[[str], str],
) -> tuple[str, str]:
    """The choice for `auto` and its reason, from the store and, unless offline, the network."""
    if has(installer.sha256):
        return "anaconda", f"{installer.name} is in the store"
    if offline:
        return (
            "system",
            f"{installer.name} is not in the store, and --offline forbids downloading it",
        )
    if why := why_unavailable(installer.url):
        return "system", f"{installer.name} is not in the store, and {installer.host} {why}"
    return "anaconda", f"{installer.host} offers {installer.file}"


def why_not_fetched(url: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """Why the URL cannot be fetched, worded to follow the host's name; empty when it can."""
    try:
        response = requests.head(url, timeout=timeout_s, allow_redirects=True)
    except requests.RequestException as error:
        return download.why(error)
    return "" if response.status_code == 200 else f"answers with status {response.status_code}"


def forget(checkout: Checkout = HERE) -> None:
    """Remove the recorded decision, so that the next `auto` decides again."""
    record_file(checkout).unlink(missing_ok=True)


def recorded(checkout: Checkout = HERE) -> Decision | None:
    """The recorded decision; None when there is none. Raises Failure when it cannot be read."""
    record = record_file(checkout)
    if not record.exists():
        return None
    remedy = f"remove {record}; the next build decides again"
    try:
        document = json.loads(record.read_text())
        document.pop("schema_version")
        decision = Decision(**document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failure(f"{record} is damaged: {error}", remedy=remedy) from error
    if decision.choice not in CHOICES[1:]:
        raise Failure(f"{record} names an unknown choice: {decision.choice}", remedy=remedy)
    return decision


def record_file(checkout: Checkout = HERE) -> Path:
    """Where the decision of a checkout is recorded."""
    return checkout.state / "python-distribution.json"
