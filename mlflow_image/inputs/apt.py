"""apt packages as inputs: names are resolved to exact .debs, fetched into the store, listed.

apt itself resolves, checks the archive's signatures and downloads, in a private
configuration: the host's own package state is neither read nor changed; of the host's
settings only `Acquire::*` (proxies, time-outs) is taken over.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure, Refusals
from mlflow_image.files import hash_file
from mlflow_image.inputs.operating_systems import COMMON_PACKAGES, OperatingSystem
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step

#: A resolved list older than this is resolved again when the archive can be reached.
MAX_AGE_S = 7 * 24 * 3600

#: Of the host's settings: which indexes are fetched, and how they are kept, is decided here.
NOT_TAKEN_OVER = ("Acquire::Languages", "Acquire::IndexTargets", "Acquire::GzipIndexes")


@dataclass(frozen=True)
class Package:
    """One .deb: exactly this version with exactly these bytes."""

    name: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int
    #: The archive's own description of it (a Packages stanza).
    stanza: str

    @property
    def label(self) -> str:
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Resolution:
    """All .debs of a root tree, and the apt sources they came from."""

    packages: tuple[Package, ...]
    #: The distribution's public sources, as mmdebstrap writes them for the suite.
    sources: tuple[str, ...]
    resolved_at: float

    @property
    def age_s(self) -> float:
        return time.time() - self.resolved_at


def wanted(system: OperatingSystem, extra: Iterable[str] = ()) -> list[str]:
    """The names of the packages that are asked for; what they depend on comes with them."""
    return sorted({*COMMON_PACKAGES, *system.packages, system.kernel, *extra})


def load(file: Path) -> Resolution | None:
    """The last resolution that was written to `file`, or None."""
    try:
        data = json.loads(file.read_text())
        packages = tuple(Package(**row) for row in data["packages"])
        return Resolution(packages, tuple(data["sources"]), data["resolved_at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def save(resolution: Resolution, file: Path) -> None:
    """Write a resolution beside its place and rename it into it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}.new")
    beside.write_text(json.dumps(asdict(resolution), indent=1))
    beside.replace(file)


def difference(old: Resolution, new: Resolution) -> str:
    """What changed between two resolutions, in one line; empty when nothing did."""
    before = {package.name: package.version for package in old.packages}
    after = {package.name: package.version for package in new.packages}
    changed = [
        f"{name} {before[name]} -> {after[name]}"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    changed += [f"+{name} {after[name]}" for name in sorted(after.keys() - before.keys())]
    changed += [f"-{name} {before[name]}" for name in sorted(before.keys() - after.keys())]
    if not changed:
        return ""
    more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
    return ", ".join(changed[:6]) + more


class Archive:
    """A distribution's package archive, seen through a private apt."""

    def __init__(
        self,
        folder: Path,
        system: OperatingSystem,
        keyring: Path,
        sources: Iterable[str],
        mirror: str = "",
    ) -> None:
        """folder holds apt's private state; `mirror` replaces the public hosts, for fetching."""
        self.folder = folder
        self.system = system
        self.sources = tuple(sources)
        self._keyring = keyring
        self._mirror = mirror

    def resolve(self, names: list[str], step: Step) -> Resolution:
        """Ask the archive which .debs these names mean today.

        Raises Failure when the archive cannot be reached, Refusals naming what it does not have.
        """
        self._configure()
        step.update("reading the archive's index")
        self._apt(
            "apt-get",
            "update",
            "--error-on=any",
            remedy="if the archive cannot be reached from here: set apt_mirror in invoke.yaml, "
            "or choose another system, e.g. `--os debian-12`",
        )
        step.update("resolving dependencies")
        stanzas = {
            package.name: package
            for package in parse_stanzas(self._apt("apt-cache", "dumpavail").stdout)
        }
        required = [name for name, package in stanzas.items() if is_required(package.stanza)]
        asked = sorted({*names, *required})
        if unknown := [name for name in names if name not in stanzas]:
            raise Refusals(
                f"apt_packages of the image definition names what {self.system.name} lacks:",
                [f"{name}{nearest(name, stanzas)}" for name in unknown],
                remedy="correct apt_packages",
            )
        plan = self._apt("apt-get", "install", "-qq", "-y", "--print-uris", *asked).stdout
        chosen = [stanzas[name] for name in names_of_uris(plan)]
        return Resolution(tuple(sorted(chosen, key=lambda p: p.name)), self.sources, time.time())

    def fetch(self, resolution: Resolution, store: Store, step: Step) -> None:
        """Bring every .deb of the resolution into the store, each verified by its sha256."""
        # The private apt has one configuration: two builds at once would write it in turns.
        with store.locked(f"apt-{self.system.name}"):
            missing = [p for p in resolution.packages if not store.has(p.sha256)]
            if missing:
                self._configure()
                self._download(missing, store, step)

    def _download(self, missing: list[Package], store: Store, step: Step) -> None:
        total = sum(package.size_bytes for package in missing)
        with store.incoming() as folder:
            for start in range(0, len(missing), 40):
                some = missing[start : start + 40]
                have = sum(package.size_bytes for package in missing[:start])
                step.update(f"{have / 1e6:.0f} of {total / 1e6:.0f} MB")
                self._apt(
                    "apt-get",
                    "download",
                    "-q",
                    *(package.label for package in some),
                    cwd=folder,
                    remedy="the archive may have dropped a version: `invoke fetch --refresh` "
                    "resolves the list again",
                )
                take_in(folder, some, store)

    def _configure(self) -> None:
        for part in ("state/lists/partial", "cache/archives/partial", "trusted"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        shutil.copyfile(self._keyring, self.folder / "trusted" / "archive.gpg")
        (self.folder / "sources.list").write_text("\n".join(self._fetch_sources()) + "\n")
        host = command.run(["apt-config", "dump", "Acquire"], check=False).stdout
        settings = {
            "Dir::State": f"{self.folder}/state",
            "Dir::State::status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": f"{self.folder}/trusted",
            "APT::Architecture": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "false",
            "Acquire::Retries": "3",
        }
        lines = [line for line in host.splitlines() if not line.startswith(NOT_TAKEN_OVER)]
        lines += [f'{key} "{value}";' for key, value in settings.items()]
        lines.append('#clear APT::Architectures; APT::Architectures { "amd64"; };')
        target = self.folder / "apt.conf"
        target.touch(mode=0o600)  # a proxy's address may hold a password
        target.chmod(0o600)
        target.write_text("\n".join(lines) + "\n")

    def _fetch_sources(self) -> list[str]:
        if not self._mirror:
            return list(self.sources)
        return [re.sub(r"^deb \S+", f"deb {self._mirror}", line) for line in self.sources]

    def _apt(self, *argv: str, remedy: str = "", cwd: Path | None = None) -> command.Completed:
        env = {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        return command.run(argv, env=env, cwd=cwd, remedy=remedy)


def take_in(folder: Path, packages: list[Package], store: Store) -> None:
    """Move downloaded .debs into the store by their hashes."""
    by_hash = {package.sha256: package for package in packages}
    for file in folder.glob("*.deb"):
        found = hash_file(file)
        if found not in by_hash:
            raise Failure(f"{file.name} has the sha256 {found}, which the list does not name")
        store.add(file, found, by_hash[found].label)
    if missing := [p.label for p in packages if not store.has(p.sha256)]:
        raise Failure(f"apt did not bring {', '.join(missing)}")


def parse_stanzas(text: str) -> Iterable[Package]:
    """The packages of `apt-cache dumpavail` or a Packages file, newest first per name."""
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
        if "SHA256" in fields and fields.get("Architecture") in ("amd64", "all"):
            yield Package(
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields["Architecture"],
                sha256=fields["SHA256"],
                size_bytes=int(fields["Size"]),
                stanza=stanza.strip(),
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean NAME?` for a misspelt package; empty when none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f", did you mean {close[0]}?" if close else ""


def is_required(stanza: str) -> bool:
    """Whether a package belongs to every tree: essential or of priority required."""
    return bool(re.search(r"^(Essential: yes|Priority: required)$", stanza, re.MULTILINE))


def names_of_uris(text: str) -> list[str]:
    """Package names from `apt-get --print-uris`: 'URI' NAME_VERSION_ARCH.deb SIZE HASH."""
    return [match.group(1) for match in re.finditer(r"^'\S+' ([^_ ]+)_\S+ \d+", text, re.MULTILINE)]
