"""What apt needs to read an archive: its public sources and its signing keys."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.files import new_folder
from mlflow_image.inputs.operating_systems import OperatingSystem
from mlflow_image.inputs.store import Store

HOST_KEYRINGS = Path("/usr/share/keyrings")


def public_sources(system: OperatingSystem) -> tuple[str, ...]:
    """The distribution's public apt sources, security included, as mmdebstrap writes them.

    mmdebstrap knows each suite's hosts; it is stopped as soon as it has written the file.
    Raises Failure when it names no sources.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = command.run(
            [
                "mmdebstrap",
                "--variant=custom",
                "--format=tar",
                "--architectures=amd64",
                f"--components={','.join(system.components)}",
                # With an explicit keyring, mmdebstrap omits `signed-by`, a path on this host.
                f"--keyring={folder}",
                # stderr, because mmdebstrap's user namespace cannot write into `folder`.
                '--setup-hook=sed "s/^/SOURCE /" "$1/etc/apt/sources.list" >&2; exit 1',
                system.suite,
                "/dev/null",
            ],
            check=False,
        )
    sources = re.findall(r"^SOURCE (deb .*)$", done.stderr, re.MULTILINE)
    if not sources:
        raise Failure(
            f"mmdebstrap does not name the apt sources of {system.suite}",
            remedy="install a newer mmdebstrap, or choose another --os",
            evidence=command.last_lines(done.stderr),
        )
    return tuple(re.sub(r"\[[^]]*\] ", "", source) for source in sources)


def keyring(
    system: OperatingSystem,
    sources: tuple[str, ...],
    mirror: str,
    store: Store,
    host_keyrings: Path = HOST_KEYRINGS,
) -> Path:
    """The file with the archive's signing keys: the host's own, else from the pinned package.

    A Debian 12 host has no package with Ubuntu's keys. They are taken from Ubuntu's keyring
    package, which is trusted only because of its pinned sha256.
    Raises Failure when the host's keyring is missing and no package is pinned.
    """
    own = host_keyrings / Path(system.keyring.path).name
    if own.is_file():
        return own
    if not system.keyring.deb_sha256:
        raise Failure(
            f"{own} is missing",
            remedy=f"apt install {system.keyring.package} (`scripts/invoke` installs it when it "
            "has the permission)",
        )
    root = mirror or sources[0].split()[1]
    url = f"{root.rstrip('/')}/{system.keyring.deb_path}"
    package = store.fetch(url, system.keyring.deb_sha256, Path(system.keyring.deb_path).name)
    unpacked = store.root / "keyrings" / system.keyring.deb_sha256
    with store.locked(f"keyring-{system.keyring.deb_sha256}"):
        if not unpacked.exists():
            with new_folder(unpacked) as folder:
                command.run(["dpkg-deb", "-x", package, folder])
    return unpacked / system.keyring.path


def vendor_keyring(
    system: OperatingSystem,
    path: str,
    mirror: str,
    store: Store,
    host_keyrings: Path = HOST_KEYRINGS,
) -> Path:
    """Another file of the keyring package; an absolute `path` is returned as it is."""
    if Path(path).is_absolute():
        return Path(path)
    same_package = replace(system, keyring=replace(system.keyring, path=path))
    on_host = (host_keyrings / Path(path).name).is_file()
    sources = () if mirror or on_host else public_sources(system)
    return keyring(same_package, sources, mirror, store, host_keyrings)
