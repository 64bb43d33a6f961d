"""apt packages as inputs: package names are resolved to exact .debs and fetched into the store.

apt itself resolves, checks the archive's signatures and downloads. It runs with a private
configuration: the host's package state is neither read nor changed, and of the host's settings
only `Acquire::*` (proxies, timeouts) is used.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure, Refusals
from mlflow_image.files import hash_file, write, write_private
from mlflow_image.inputs.kind import Item, Kind, total_size
from mlflow_image.inputs.operating_systems import COMMON_PACKAGES, OperatingSystem
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step

#: An older resolution is made again when the archive can be reached.
MAX_AGE_S = 7 * 24 * 3600

#: Settings of the host that are not used: they select the indexes and how they are stored.
IGNORED_SETTINGS = ("Acquire::Languages", "Acquire::IndexTargets", "Acquire::GzipIndexes")


@dataclass(frozen=True)
class Package:
    """One .deb file: its version and sha256."""

    name: str
    version: str
    architecture: str
    sha256: str
    size_bytes: int
    #: Its stanza in the archive's Packages file.
    stanza: str

    @property
    def label(self) -> str:
        return f"{self.name}={self.version}"


@dataclass(frozen=True)
class Resolution:
    """All .debs of a root tree, and the apt sources that list them."""

    packages: tuple[Package, ...]
    #: The distribution's public sources, as mmdebstrap writes them for the suite.
    sources: tuple[str, ...]
    resolved_at: float

    @property
    def age_s(self) -> float:
        return time.time() - self.resolved_at


@dataclass(frozen=True)
class PackageFiles(Kind):
    """The .debs of a resolution as an input."""

    resolution: Resolution
    #: Opens the archive; may fetch its keyring.
    archive: Callable[[], Archive]

    def items(self) -> list[Item]:
        return [Item(p.label, p.sha256, p.size_bytes) for p in self.resolution.packages]

    def title(self, missing: list[Item]) -> str:
        return f"{len(missing)} apt packages, {total_size(missing)}"

    def fetch(self, step: Step) -> None:
        self.archive().fetch(self.resolution, self.store, step)


def wanted(system: OperatingSystem, extra: Iterable[str] = ()) -> list[str]:
    """The names of the packages to install, without their dependencies."""
    return sorted({*COMMON_PACKAGES, *system.packages, system.kernel, *extra})


def load(file: Path) -> Resolution | None:
    """The resolution saved in `file`; None when there is none that can be read."""
    try:
        data = json.loads(file.read_text())
        packages = tuple(Package(**row) for row in data["packages"])
        return Resolution(packages, tuple(data["sources"]), data["resolved_at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def save(resolution: Resolution, file: Path) -> None:
    """Write a resolution to `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, json.dumps(asdict(resolution), indent=1))


def difference(old: Resolution, new: Resolution) -> str:
    """What changed between two resolutions, in one line; empty when nothing changed."""
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
    """A distribution's package archive, read by apt with a private configuration."""

    def __init__(
        self,
        folder: Path,
        system: OperatingSystem,
        keyring: Path,
        sources: Iterable[str],
        mirror: str = "",
    ) -> None:
        """folder: apt's private state. mirror: a URL to use instead of the public hosts."""
        self.folder = folder
        self.system = system
        self.sources = tuple(sources)
        self._keyring = keyring
        self._mirror = mirror

    def resolve(self, names: list[str], step: Step) -> Resolution:
        """Resolve package names to the archive's current .debs, dependencies included.

        Raises Failure when the archive cannot be read, Refusals with the names it does not have.
        """
        self._configure()
        step.update("reading the archive's index")
        self._apt(
            "apt-get",
            "update",
            "--error-on=any",
            remedy="if this host cannot reach the archive: set apt_mirror in invoke.yaml, "
            "or choose another system, such as `--os debian-12`",
        )
        step.update("resolving dependencies")
        stanzas = {
            package.name: package
            for package in parse_stanzas(self._apt("apt-cache", "dumpavail").stdout)
        }
        required = [name for name, package in stanzas.items() if is_required(package.stanza)]
        requested = sorted({*names, *required})
        if unknown := [name for name in names if name not in stanzas]:
            raise Refusals(
                f"{self.system.name} does not have these packages:",
                [f"{name}{nearest(name, stanzas)}" for name in unknown],
                remedy="correct apt_packages in the image definition",
            )
        plan = self._apt("apt-get", "install", "-qq", "-y", "--print-uris", *requested).stdout
        chosen = [stanzas[name] for name in names_of_uris(plan)]
        return Resolution(tuple(sorted(chosen, key=lambda p: p.name)), self.sources, time.time())

    def fetch(self, resolution: Resolution, store: Store, step: Step) -> None:
        """Fetch every .deb that the store lacks and check its sha256."""
        # Two builds at the same time would overwrite each other's apt configuration.
        with store.locked(f"apt-{self.system.name}"):
            missing = [p for p in resolution.packages if not store.has(p.sha256)]
            if missing:
                self._configure()
                self._download(missing, store, step)

    def _download(self, missing: list[Package], store: Store, step: Step) -> None:
        total = sum(package.size_bytes for package in missing)
        with store.incoming() as folder:
            for start in range(0, len(missing), 40):
                batch = missing[start : start + 40]
                have = sum(package.size_bytes for package in missing[:start])
                step.bytes_of(have, total)
                self._apt(
                    "apt-get",
                    "download",
                    "-q",
                    *(package.label for package in batch),
                    cwd=folder,
                    remedy="the archive may have removed a version: run `invoke fetch --refresh` "
                    "to resolve the packages again",
                )
                add_debs(folder, batch, store)

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
        lines = [line for line in host.splitlines() if not line.startswith(IGNORED_SETTINGS)]
        lines += [f'{key} "{value}";' for key, value in settings.items()]
        lines.append('#clear APT::Architectures; APT::Architectures { "amd64"; };')
        # Private, because a proxy's URL may contain a password.
        write_private(self.folder / "apt.conf", "\n".join(lines) + "\n")

    def _fetch_sources(self) -> list[str]:
        if not self._mirror:
            return list(self.sources)
        return [re.sub(r"^deb \S+", f"deb {self._mirror}", line) for line in self.sources]

    def _apt(self, *argv: str, remedy: str = "", cwd: Path | None = None) -> command.Completed:
        env = {"APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}
        return command.run(argv, env=env, cwd=cwd, remedy=remedy)


def add_debs(folder: Path, packages: list[Package], store: Store) -> None:
    """Move the .debs of a folder into the store.

    Raises Failure for a .deb that is not one of `packages`, and for a package without its .deb.
    """
    by_hash = {package.sha256: package for package in packages}
    for file in folder.glob("*.deb"):
        found = hash_file(file)
        if found not in by_hash:
            raise Failure(
                f"{file.name} has the wrong sha256: {found} is not in the list of apt packages",
                remedy="run `invoke fetch --refresh` to resolve the packages again",
            )
        store.add(file, found, by_hash[found].label)
    if missing := [p.label for p in packages if not store.has(p.sha256)]:
        raise Failure(
            f"apt-get download did not deliver {', '.join(missing)}",
            remedy="run `invoke fetch --refresh` to resolve the packages again",
        )


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
    """`, did you mean NAME?` for a misspelt package; empty when no name is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f", did you mean {close[0]}?" if close else ""


def is_required(stanza: str) -> bool:
    """Whether every root tree contains the package: essential, or priority required."""
    return bool(re.search(r"^(Essential: yes|Priority: required)$", stanza, re.MULTILINE))


def names_of_uris(text: str) -> list[str]:
    """Package names from `apt-get --print-uris`: 'URI' NAME_VERSION_ARCH.deb SIZE HASH."""
    return [match.group(1) for match in re.finditer(r"^'\S+' ([^_ ]+)_\S+ \d+", text, re.MULTILINE)]
