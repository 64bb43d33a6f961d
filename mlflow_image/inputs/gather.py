"""Which files a build needs, by hash, and fetching those that the store lacks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_image import progress
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda, apt, archive_keys, cloud_image, wheels
from mlflow_image.inputs.anaconda import Decision, Installer
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import DISK_MIB, Definition, small_disk
from mlflow_image.inputs.kind import Kind
from mlflow_image.inputs.store import Store
from mlflow_image.inputs.wheels import Wheel
from mlflow_image.paths import HERE, Checkout, cache
from mlflow_image.progress import Step
from mlflow_image.space import CACHE_REMEDY, Room

#: Resolves package names in the archive: see apt.Archive.resolve.
Resolve = Callable[[list[str], Step], apt.Resolution]


@dataclass(frozen=True)
class Inputs:
    """Everything that an image is made of, apart from the files of the checkout."""

    definition: Definition
    #: The Python distribution and why it was chosen.
    decision: Decision
    #: Version of the environment's Python, such as 3.10.
    python: str
    #: None when the operating system's own Python is used.
    installer: Installer | None
    #: The base is made of either apt packages or the vendor's cloud image; the other is None.
    packages: apt.Resolution | None
    cloud_image: CloudImage | None
    wheels: tuple[Wheel, ...]
    tools: tuple[Wheel, ...]
    store: Store

    @property
    def distribution(self) -> str:
        return self.decision.choice

    @property
    def disk_mib(self) -> int:
        """Size of the image's disk."""
        return self.definition.disk_size_mib(self.distribution)

    @property
    def base_disk_mib(self) -> int:
        """Size of the disk that the layers are made on: a distribution is installed there."""
        return max(self.disk_mib, DISK_MIB[self.distribution])

    @property
    def keeps_distribution(self) -> bool:
        """Whether the image keeps a distribution beside the environment."""
        return self.installer is not None and self.definition.keep_distribution

    @property
    def apt_packages(self) -> tuple[apt.Package, ...]:
        """Every .deb of the base; empty for a cloud image, which is used unchanged."""
        return self.packages.packages if self.packages else ()

    @property
    def files(self) -> set[Path]:
        """The paths of all inputs in the store, whether or not they exist yet."""
        return {self.store.path(item.sha256) for kind in kinds(self) for item in kind.items()}


@dataclass(frozen=True)
class Freshness:
    """When the apt packages are resolved again: the options --offline and --refresh."""

    offline: bool = False
    #: None: when the last resolution is older than apt.MAX_AGE_S.
    refresh: bool | None = None

    def wants_new(self, resolution: apt.Resolution | None) -> bool:
        """Whether to resolve again, given the last resolution."""
        if self.offline:
            return False
        if resolution is None or self.refresh is not None:
            return bool(self.refresh or resolution is None)
        return resolution.age_s > apt.MAX_AGE_S


def open_store() -> Store:
    return Store(cache() / "store")


def gather(
    definition: Definition, freshness: Freshness, mirror: str = "", checkout: Checkout = HERE
) -> Inputs:
    """List every input of a build. Packages may be resolved, but no file is fetched yet.

    mirror: a URL that replaces the archive's public hosts. checkout: has the lock files and the
    recorded Python distribution.
    Raises Failure when a list is missing and cannot be made, Refusal when --offline forbids it.
    """
    store = open_store()
    image = pinned_image(definition, checkout)

    def ask_archive(names: list[str], step: Step) -> apt.Resolution:
        sources = archive_keys.public_sources(definition.system)
        return archive(definition, sources, store, mirror).resolve(names, step)

    packages = None if image else resolve(definition, freshness, store, ask_archive)
    decision = anaconda.decide(
        definition.python, has=store.has, offline=freshness.offline, checkout=checkout
    )
    choice = decision.choice
    installer = None
    if choice in anaconda.WITH_INSTALLER:
        installer = anaconda.read_installer(choice, checkout)
    if definition.python == "auto":
        progress.say(f"{decision}; change it with --python")
    elif installer:
        progress.say(str(decision))
    require_disk_size(definition, choice)
    python = installer.python if installer else definition.system.python
    locked = wheels.read_lock(wheels.lock_file(python, checkout))
    return Inputs(
        definition=definition,
        decision=decision,
        python=python,
        installer=installer,
        packages=packages,
        cloud_image=image,
        wheels=tuple(wheels.select(locked, definition.packages, checkout)),
        tools=tuple(wheels.read_lock(wheels.tools_lock_file(checkout))),
        store=store,
    )


def require_disk_size(definition: Definition, distribution: str) -> None:
    """Refuse a disk that is too small; for `auto`, the definition alone cannot know it."""
    size = definition.disk_size_mib(distribution)
    if fault := small_disk(size, distribution, definition.keep_distribution):
        raise Refusal(f"disk_mib: {fault.what}", remedy=fault.remedy)


def needed_by(stale: set[str], inputs: Inputs, *, offline: bool = False) -> Inputs:
    """The inputs that building the stale layers needs; pass them to `fetch`.

    stale: names of layers. The Python layer is made on this host, with the base's packages. When
    --offline is set and they are missing, it can still be made in a VM: they are not required.
    """
    on_host = "python" in stale and not inputs.installer and not offline
    if "base" not in stale:
        packages = inputs.packages if on_host else None
        inputs = replace(inputs, packages=packages, cloud_image=None)
    if "python" not in stale:
        inputs = replace(inputs, wheels=(), tools=(), installer=None)
    return inputs


def kinds(inputs: Inputs, mirror: str = "") -> Iterator[Kind]:
    """Every kind of input of a build. A new kind is one subclass of Kind and one line here."""
    store = inputs.store
    if image := inputs.cloud_image:
        yield cloud_image.ImageFile(store, image, lambda: image_keyring(inputs, image, mirror))
    if packages := inputs.packages:
        yield apt.PackageFiles(
            store,
            packages,
            lambda: archive(inputs.definition, packages.sources, store, mirror),
        )
    yield wheels.WheelFiles(store, (*inputs.wheels, *inputs.tools), inputs.python)
    if inputs.installer:
        yield anaconda.InstallerFile(store, inputs.installer)


def fetch(inputs: Inputs, *, offline: bool, mirror: str = "") -> None:
    """Fetch every input that the store lacks.

    Raises Refusal naming what is missing when `offline`, Failure when fetching fails, DiskFull
    when there is too little space.
    """
    lacking = [(kind, items) for kind in kinds(inputs, mirror) if (items := kind.missing())]
    if offline and lacking:
        names = [item.name for _, items in lacking for item in items]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise Refusal(
            f"--offline: the store lacks {', '.join(names[:4])}{more}",
            remedy="run `invoke fetch` once with the same options and a network",
        )
    for kind, items in lacking:
        room = kind.room(items)
        room.require()
        with progress.step(f"Fetching {kind.title(items)}") as step, room.guarded():
            kind.fetch(step)


def pinned_image(definition: Definition, checkout: Checkout = HERE) -> CloudImage | None:
    """The cloud image of the definition; None when its base is made of packages.

    Raises Failure when none is pinned; reading the definition has refused that already.
    """
    if definition.base != "cloud-image":
        return None
    if found := cloud_image.pinned(definition.os, checkout):
        return found
    raise Failure(f"{definition.os} has no pinned cloud image", remedy="set base: packages")


def image_keyring(inputs: Inputs, image: CloudImage, mirror: str = "") -> Path:
    """The file with the key that signs the cloud image's checksums."""
    system = inputs.definition.system
    return archive_keys.vendor_keyring(system, image.keyring, mirror, inputs.store)


def resolution_file(definition: Definition) -> Path:
    """Where the last resolution of the definition's apt packages is saved."""
    names = " ".join(sorted(definition.apt_packages))
    extra = f"-{hashlib.sha256(names.encode()).hexdigest()[:12]}" if names else ""
    return cache() / "apt" / f"{definition.os}{extra}.json"


def resolve(
    definition: Definition, freshness: Freshness, store: Store, ask_archive: Resolve
) -> apt.Resolution:
    """The definition's apt packages: the saved resolution, or a new one, which is saved.

    Prints what changed. When the archive cannot be read, an older resolution is used with a
    warning, unless --refresh is set.
    Raises Refusal when --offline is set and none is saved; see also apt.Archive.resolve.
    """
    file = resolution_file(definition)
    old = apt.load(file)
    names = apt.wanted(definition.system, definition.apt_packages)
    if old and not set(names) <= {package.name for package in old.packages}:
        old = None  # saved by another version of this program, for other packages
    if not freshness.wants_new(old):
        if old is None:
            raise Refusal(
                f"--offline: the apt packages of {definition.os} have not been resolved yet",
                remedy="run `invoke fetch` once with the same options and a network",
            )
        return old
    with store.locked(f"apt-{definition.os}"):
        try:
            title = f"Resolving the apt packages of {definition.os}"
            room = Room(title, file.parent, 0, CACHE_REMEDY)
            with progress.step(title) as step, room.guarded():
                new = ask_archive(names, step)
        except Failure as failure:
            if old is None or freshness.refresh:
                raise
            days = old.age_s / 86400
            progress.warn(f"using the apt packages resolved {days:.0f} days ago: {failure.what}")
            return old
        if old and (changes := apt.difference(old, new)):
            progress.say(f"apt packages changed: {changes}")
        apt.save(new, file)
    return new


def archive(
    definition: Definition, sources: tuple[str, ...], store: Store, mirror: str
) -> apt.Archive:
    """The definition's package archive, with its signing keys."""
    keyring = archive_keys.keyring(definition.system, sources, mirror, store)
    folder = cache() / "apt" / definition.os
    return apt.Archive(folder, definition.system, keyring, sources, mirror)
