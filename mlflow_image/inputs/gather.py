"""Which files a build needs, where from, by which hash; everything is in the store afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_image import progress
from mlflow_image.errors import Failure, Refusal
from mlflow_image.inputs import anaconda, apt, archive_keys, cloud_image, wheels
from mlflow_image.inputs.anaconda import Decision, Installer
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.definition import DISK_MIB, Definition
from mlflow_image.inputs.store import Store
from mlflow_image.inputs.wheels import Wheel
from mlflow_image.paths import HERE, cache


@dataclass(frozen=True)
class Inputs:
    """Everything that goes into an image and is not in the checkout."""

    definition: Definition
    #: Which Python distribution, and why.
    decision: Decision
    #: The Python of the environment, as in the lock's name.
    python: str
    #: Where the Python distribution comes from, unless the operating system brings it.
    installer: Installer | None
    #: What the base is made of: apt packages, or the vendor's cloud image; one of the two.
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
        return self.definition.disk_size_mib(self.distribution)

    @property
    def apt_packages(self) -> tuple[apt.Package, ...]:
        """Every .deb of the base; none of a cloud image, which is taken as it is."""
        return self.packages.packages if self.packages else ()

    @property
    def files(self) -> set[Path]:
        """Where every input lies in the store."""
        hashes = {package.sha256 for package in self.apt_packages}
        hashes |= {wheel.sha256 for wheel in (*self.wheels, *self.tools)}
        hashes |= {one.sha256 for one in (self.installer, self.cloud_image) if one}
        return {self.store.path(sha256) for sha256 in hashes}


@dataclass(frozen=True)
class Freshness:
    """How inputs that change by themselves are looked at: the user's --offline, --refresh."""

    offline: bool = False
    refresh: bool | None = None

    def wants_new(self, resolution: apt.Resolution | None) -> bool:
        """Whether the list of apt packages is to be resolved again."""
        if self.offline:
            return False
        if resolution is None or self.refresh is not None:
            return bool(self.refresh or resolution is None)
        return resolution.age_s > apt.MAX_AGE_S


def open_store() -> Store:
    return Store(cache() / "store")


def gather(definition: Definition, freshness: Freshness, mirror: str = "") -> Inputs:
    """Name every input of a build; the lists are read or made, no file is fetched yet.

    Raises Failure when a list is missing and --offline forbids to make it.
    """
    store = open_store()
    image = pinned_image(definition)
    packages = None if image else resolve(definition, freshness, store, mirror)
    installer = anaconda.read_installer()
    decision = anaconda.decide(
        definition.python, installer, has=store.has, offline=freshness.offline
    )
    taken = installer if decision.choice == "anaconda" else None
    if definition.python == "auto":
        progress.say(f"{decision}; --python decides it anew")
    elif taken:
        progress.say(str(decision))
    if taken:
        require_room(definition)
    python = taken.python if taken else definition.system.python
    locked = wheels.select(wheels.read_lock(wheels.lock_file(python)), definition.packages)
    return Inputs(
        definition=definition,
        decision=decision,
        python=python,
        installer=taken,
        packages=packages,
        cloud_image=image,
        wheels=tuple(locked),
        tools=tuple(wheels.read_lock(HERE.locks / "tools.txt")),
        store=store,
    )


def require_room(definition: Definition) -> None:
    """Refuse a disk that is too small for Anaconda where `auto` became that just now."""
    least = DISK_MIB["anaconda"]
    if isinstance(definition.disk_mib, int) and definition.disk_mib < least:
        raise Refusal(
            f"disk_mib: {definition.disk_mib} MiB is too small for Anaconda",
            remedy=f"auto, at least {least}, or python.distribution: system",
        )


def needed_by(stale: set[str], inputs: Inputs, *, offline: bool = False) -> Inputs:
    """The inputs that the named layers are made of, for `fetch`: the others need not be there.

    The Python layer is made on this host with the base's packages; offline, and without them, it
    can still be made in the guest.
    """
    on_host = "python" in stale and not inputs.installer and not offline
    if "base" not in stale:
        packages = inputs.packages if on_host else None
        inputs = replace(inputs, packages=packages, cloud_image=None)
    if "python" not in stale:
        inputs = replace(inputs, wheels=(), tools=(), installer=None)
    return inputs


def fetch(inputs: Inputs, *, offline: bool, mirror: str = "") -> None:
    """Bring every input that the store lacks; raises Failure naming what is missing offline."""
    store, definition = inputs.store, inputs.definition
    # Hashed again: an altered file is removed and fetched anew, or refused now and not later.
    debs = [p for p in inputs.apt_packages if not intact(store, p.sha256, p.label)]
    wanted = (*inputs.wheels, *inputs.tools)
    files = [w for w in wanted if not intact(store, w.sha256, w.filename)]
    installer = inputs.installer
    if installer and intact(store, installer.sha256, installer.file):
        installer = None
    image = inputs.cloud_image
    if image and cloud_image.has(image, store):
        image = None
    if not debs and not files and not installer and not image:
        return
    if offline:
        names = [*(p.label for p in debs), *(w.filename for w in files)]
        names += [installer.file] if installer else []
        names += [image.file] if image else []
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise Refusal(
            f"--offline, and the store lacks {', '.join(names[:4])}{more}",
            remedy="run `invoke fetch` once with the same options, with a network",
        )
    if image:
        with progress.step(f"Fetching {image.file}") as step:
            keyring = image_keyring(inputs, image, mirror)
            cloud_image.fetch(image, keyring, store, step.bytes_of)
    if debs and inputs.packages:
        size = progress.human_bytes(sum(p.size_bytes for p in debs))
        with progress.step(f"Fetching {len(debs)} apt packages, {size}") as step:
            archive(definition, inputs.packages.sources, store, mirror).fetch(
                inputs.packages, store, step
            )
    if files:
        size = progress.human_bytes(sum(w.size_bytes for w in files))
        with progress.step(f"Fetching {len(files)} wheels, {size}") as step:
            wheels.fetch(files, inputs.python, store, step)
    if installer:
        with progress.step(f"Fetching {installer.name}") as step:
            store.fetch(installer.url, installer.sha256, installer.file, step.bytes_of)


def intact(store: Store, sha256: str, name: str) -> bool:
    """`Store.intact`, with a word about a file that was there and is not what it was."""
    there = store.has(sha256)
    found = store.intact(sha256)
    if there and not found:
        progress.warn(f"the store's copy of {name} was altered, and has been removed")
    return found


def pinned_image(definition: Definition) -> CloudImage | None:
    """The cloud image that the definition asks for; None when it asks for packages.

    Raises Failure when none is pinned: the definition refuses that before, with its line.
    """
    if definition.base != "cloud-image":
        return None
    if found := cloud_image.pinned(definition.os):
        return found
    raise Failure(f"{definition.os} has no pinned cloud image", remedy="set base: packages")


def image_keyring(inputs: Inputs, image: CloudImage, mirror: str = "") -> Path:
    """The file with the key that signs the cloud image's checksums."""
    system = inputs.definition.system
    return archive_keys.vendor_keyring(system, image.keyring, mirror, inputs.store)


def resolution_file(definition: Definition) -> Path:
    """Where the last list of apt packages for such a definition is kept."""
    names = " ".join(sorted(definition.apt_packages))
    extra = f"-{hashlib.sha256(names.encode()).hexdigest()[:12]}" if names else ""
    return cache() / "apt" / f"{definition.os}{extra}.json"


def resolve(
    definition: Definition, freshness: Freshness, store: Store, mirror: str
) -> apt.Resolution:
    """The list of apt packages: the last one, or a new one, with the difference said."""
    file = resolution_file(definition)
    old = apt.load(file)
    names = apt.wanted(definition.system, definition.apt_packages)
    if old and not set(names) <= {package.name for package in old.packages}:
        old = None  # made by another version of this product, with another list of names
    if not freshness.wants_new(old):
        if old is None:
            raise Refusal(
                f"--offline, and no list of apt packages for {definition.os} is in the cache",
                remedy="run `invoke fetch` once with the same options, with a network",
            )
        return old
    with store.locked(f"apt-{definition.os}"):
        try:
            with progress.step(f"Resolving the apt packages of {definition.os}") as step:
                sources = archive_keys.public_sources(definition.system)
                new = archive(definition, sources, store, mirror).resolve(names, step)
        except Failure as failure:
            if old is None or freshness.refresh:
                raise
            days = old.age_s / 86400
            progress.warn(f"the apt packages stay those of {days:.0f} days ago: {failure.what}")
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
