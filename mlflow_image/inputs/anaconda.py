"""Which Python distribution the environment uses: Anaconda, Miniforge, or the system's Python.

The first two have a pinned installer. `auto` is decided once per checkout and recorded, so that a
network that is down for a while does not change what an image contains. When the chosen
distribution fails later, the build fails: there is no fallback.
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

#: The installer's name on the build disc; scripts/guest/conda.sh starts it.
NAME_ON_DISC = "conda-installer.sh"
#: The distributions with an installer: the rows of locks/installers.yaml.
WITH_INSTALLER = ("anaconda", "miniforge")
CHOICES = ("auto", *WITH_INSTALLER, "system")
#: Long enough for a slow proxy, short enough for a firewall that drops packets.
ANSWER_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Installer:
    """A pinned installer; the sizes are approximate. distribution: one of WITH_INSTALLER."""

    distribution: str
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
        return f"{self.distribution.capitalize()} {self.version}"

    @property
    def prefix(self) -> str:
        """Where it is installed in the guest; the last part is the installers' own default."""
        return f"/opt/{self.distribution}3"


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
    """The Python distribution (one of CHOICES but `auto`), the reason, download size and terms."""

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


def read_installers(checkout: Checkout = HERE) -> dict[str, Installer]:
    """The pinned installers, by distribution.

    MLFLOW_IMAGE_INSTALLERS names another file of pins: for a company's mirror, or for the
    tests' stand-in. It may have fewer rows. Raises Failure naming the file when it is malformed.
    """
    file = installers_file(checkout)
    try:
        rows = yaml.safe_load(file.read_text())
        return {name: Installer(distribution=name, **row) for name, row in rows.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise Failure(
            f"{file} does not pin installers of Python distributions: {error!r}",
            remedy="compare it with locks/installers.yaml of this project",
        ) from error


def read_installer(distribution: str, checkout: Checkout = HERE) -> Installer:
    """The pinned installer of a distribution; raises Failure when there is none."""
    found = read_installers(checkout).get(distribution)
    if found is None:
        raise Failure(
            f"{installers_file(checkout)} pins no installer of {distribution}",
            remedy=f"add a row {distribution}, as in locks/installers.yaml of this project",
        )
    return found


def installers_file(checkout: Checkout = HERE) -> Path:
    """The file of pins that is in force."""
    chosen = os.environ.get("MLFLOW_IMAGE_INSTALLERS")
    return Path(chosen) if chosen else checkout.locks / "installers.yaml"


def decide(
    requested: str,
    *,
    has: Callable[[str], bool],
    offline: bool = False,
    why_unavailable: Callable[[str], str] | None = None,
    checkout: Checkout = HERE,
) -> Decision:
    """Resolve `python.distribution`; the decision is recorded in the checkout when it changes.

    requested: one of CHOICES. An explicit choice also becomes the record, which a later `auto`
    follows. has: whether the store has a file with this sha256. why_unavailable: see
    `why_not_fetched`; called only when nothing else decides.

    Size and terms always come from the pins: the record may be older than they are.

    Raises Refusal for an unknown value, Failure for a record or pins that cannot be read.
    """
    if requested not in CHOICES:
        raise Refusal(
            f"python.distribution: unknown value {requested}",
            remedy=f"choose one of {', '.join(CHOICES)}",
        )
    before = recorded(checkout)
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if before and requested in ("auto", before.choice):
        choice, reason, date = before.choice, before.reason, before.date
    elif requested == "auto":
        installer = read_installers(checkout).get("anaconda")
        choice, reason = choose(installer, has, offline, why_unavailable or why_not_fetched)
    else:
        choice, reason = requested, "requested"
    pinned = read_installer(choice, checkout) if choice in WITH_INSTALLER else None
    decision = Decision(
        choice=choice,
        reason=reason,
        size_bytes=pinned.size_bytes if pinned else 0,
        terms=pinned.terms if pinned else "",
        date=date,
    )
    if decision != before:
        record = record_file(checkout)
        record.parent.mkdir(parents=True, exist_ok=True)
        document = {"schema_version": 1, **asdict(decision)}
        files.write(record, json.dumps(document, indent=2) + "\n")
    return decision


def choose(
    installer: Installer | None,
    has: Callable[[str], bool],
    offline: bool,
    why_unavailable: Callable[[str], str],
) -> tuple[str, str]:
    """The choice for `auto` and its reason, from the store and, unless offline, the network."""
    if installer is None:
        return "system", "no installer of Anaconda is pinned"
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
