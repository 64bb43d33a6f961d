"""What is needed before an archive can be read: its public sources and its signing keys."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.inputs.operating_systems import OperatingSystem
from mlflow_image.inputs.store import Store

HOST_KEYRINGS = Path("/usr/share/keyrings")


def public_sources(system: OperatingSystem) -> tuple[str, ...]:
    """The distribution's public apt sources, security included, as mmdebstrap writes them.

    mmdebstrap knows each suite's hosts; it is stopped as soon as it has written the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        # An unprivileged namespace could not write into this folder: it writes to stderr.
        done = command.run(
            [
                "mmdebstrap",
                "--variant=custom",
                "--format=tar",
                "--architectures=amd64",
                f"--components={','.join(system.components)}",
                # Naming any keyring keeps `signed-by`, a path of this host, out of the file.
                f"--keyring={folder}",
                '--setup-hook=sed "s/^/SOURCE /" "$1/etc/apt/sources.list" >&2; exit 1',
                system.suite,
                "/dev/null",
            ],
            check=False,
        )
    sources = re.findall(r"^SOURCE (deb .*)$", done.stderr, re.MULTILINE)
    if not sources:
        raise Failure(
            f"mmdebstrap did not name the sources of {system.suite}",
            evidence=command.last_lines(done.stderr),
        )
    return tuple(re.sub(r"\[[^]]*\] ", "", source) for source in sources)


def keyring(system: OperatingSystem, sources: tuple[str, ...], mirror: str, store: Store) -> Path:
    """The file with the archive's signing keys: the host's own, or the pinned package's.

    A Debian 12 host has no package with Ubuntu's keys; they come out of Ubuntu's own
    keyring package, which is trusted by its sha256 alone.
    """
    own = HOST_KEYRINGS / Path(system.keyring.path).name
    if own.is_file():
        return own
    if not system.keyring.deb_sha256:
        raise Failure(
            f"{own} is missing",
            remedy=f"apt install {system.keyring.package} (`scripts/invoke` does it when it may)",
        )
    root = mirror or sources[0].split()[1]
    url = f"{root.rstrip('/')}/{system.keyring.deb_path}"
    package = store.fetch(url, system.keyring.deb_sha256, Path(system.keyring.deb_path).name)
    unpacked = store.root / "keyrings" / system.keyring.deb_sha256
    target = unpacked / system.keyring.path
    if not target.is_file():
        unpacked.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=unpacked.parent) as folder:
            command.run(["dpkg-deb", "-x", package, Path(folder) / "files"])
            if not unpacked.exists():
                (Path(folder) / "files").rename(unpacked)
    return target


def vendor_keyring(system: OperatingSystem, path: str, mirror: str, store: Store) -> Path:
    """Another file of the keyring package, or the file itself where `path` is absolute."""
    if Path(path).is_absolute():
        return Path(path)
    same_package = replace(system, keyring=replace(system.keyring, path=path))
    on_host = (HOST_KEYRINGS / Path(path).name).is_file()
    return keyring(same_package, () if mirror or on_host else public_sources(system), mirror, store)
