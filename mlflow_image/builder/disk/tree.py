"""apt packages become a root tree: .debs from the store in, a tar of the configured tree out."""

from __future__ import annotations

from pathlib import Path

from mlflow_image import command
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.builder.place import Place
from mlflow_image.files import hash_file
from mlflow_image.host import rootless
from mlflow_image.inputs.apt import Resolution
from mlflow_image.inputs.operating_systems import OperatingSystem
from mlflow_image.inputs.store import Store

#: Written before packages are configured, so that the initramfs is made with it.
INITRAMFS_SETTINGS = "COMPRESS=lz4\n"

#: mmdebstrap copies the host's resolver and name in, and its own apt settings.
LEAVE_THE_HOST = """cd "$1"
rm -f etc/apt/apt.conf.d/99mmdebstrap etc/apt/sources.list.d/* etc/resolv.conf
ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf
echo localhost > etc/hostname
chmod 0644 etc/hostname etc/apt/sources.list etc/initramfs-tools/conf.d/mlflow-image"""


def build(
    resolution: Resolution,
    system: OperatingSystem,
    store: Store,
    place: Place,
) -> Path:
    """Unpack and configure the packages; returns `tree.tar` in the place's scratch space.

    Needs no network: mmdebstrap reads a repository made of the store's files, each of
    which is hashed again here. Raises Failure with mmdebstrap's last lines.
    """
    work = place.work
    repository = work / "repository"
    write_repository(resolution, system, store, repository)
    sources = work / "sources.list"
    sources.write_text("\n".join(resolution.sources) + "\n")
    initramfs = work / "initramfs.conf"
    initramfs.write_text(INITRAMFS_SETTINGS)
    target = work / "tree.tar"
    conf_d = "etc/initramfs-tools/conf.d"
    command.stream(
        [
            *rootless.prefix(),
            "mmdebstrap",
            "--mode=root",
            "--variant=required",
            "--architectures=amd64",
            "--format=tar",
            f"--include={','.join(package.label for package in resolution.packages)}",
            '--aptopt=Acquire::Languages "none"',
            f'--essential-hook=mkdir -p "$1/{conf_d}"',
            f"--essential-hook=upload {initramfs} /{conf_d}/mlflow-image",
            f"--customize-hook=upload {sources} /etc/apt/sources.list",
            f"--customize-hook={LEAVE_THE_HOST}",
            system.suite,
            target,
            f"deb [trusted=yes] copy:{repository} ./",
        ],
        on_line=lambda line: place.step.update(line.removeprefix("I: ")),
        env={"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "TMPDIR": str(work)},
        log=place.logs / "mmdebstrap.log",
    )
    return target


def write_repository(
    resolution: Resolution, system: OperatingSystem, store: Store, folder: Path
) -> None:
    """Lay out the resolution's .debs as a flat apt repository of links into the store."""
    folder.mkdir(parents=True)
    stanzas = []
    for package in resolution.packages:
        name = f"{package.sha256}.deb"
        link(store.verified(package.sha256, package.label), folder / name)
        lines = [
            f"Filename: ./{name}" if line.startswith("Filename:") else line
            for line in package.stanza.splitlines()
        ]
        stanzas.append("\n".join(lines))
    packages = folder / "Packages"
    packages.write_text("\n\n".join(stanzas) + "\n")
    # mmdebstrap picks essential packages by the suite's name, which apt reads in Release.
    (folder / "Release").write_text(
        f"Suite: {system.suite}\nCodename: {system.suite}\nSHA256:\n"
        f" {hash_file(packages)} {packages.stat().st_size} Packages\n"
    )


def link(source: Path, target: Path) -> None:
    """A hard link where the filesystem allows it, else a symbolic one."""
    try:
        target.hardlink_to(source)
    except OSError:
        target.symlink_to(source)
