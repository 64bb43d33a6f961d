"""What a build VM is given: one disc with Packer's key and everything that its steps read."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import anaconda, command, prepared, seed
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs
from mlflow_image.layers import (
    ANACONDA_SCRIPT,
    MODES_FILE,
    PREPARE_FILES,
    PREPARE_FOLDER,
    files_of,
)
from mlflow_image.paths import BUILD_VM_FILES, IMAGE_FILES
from mlflow_image.render import build_seed
from mlflow_image.tree import SOURCE_DATE_EPOCH


@dataclass(frozen=True)
class Mode:
    """A row of image_files.modes: what differs from root, 0644 or 0755 for folders."""

    mode: int
    owner: str
    group: str


def environment_files(inputs: Inputs, work: Path) -> dict[str, Path]:
    """What environment.sh makes /opt/mlflow from; every wheel is hashed again."""
    requirements = work / "requirements.txt"
    requirements.write_text("".join(f"{wheel.line}\n" for wheel in inputs.wheels))
    script = prepared.ENVIRONMENT_SCRIPT
    files = {"requirements.txt": requirements, script.name: script}
    store = inputs.store
    for wheel in inputs.wheels:
        files[f"wheels/{wheel.filename}"] = store.verified(wheel.sha256, wheel.filename)
    for tool in inputs.tools:
        archive = store.verified(tool.sha256, tool.filename)
        files[tool.name] = program_of(archive, f"{tool.name}-{tool.version}", tool.name, work)
    if inputs.installer:
        name = anaconda.NAME_ON_DISC
        files[name] = store.verified(inputs.installer.sha256, inputs.installer.file)
        files[ANACONDA_SCRIPT.name] = ANACONDA_SCRIPT
    return files | {f"prepare/{n}": IMAGE_FILES / PREPARE_FOLDER / n for n in PREPARE_FILES}


def program_of(wheel: Path, distribution: str, name: str, work: Path) -> Path:
    """A program out of a wheel's scripts folder (PEP 427)."""
    target = work / name
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(f"{distribution}.data/scripts/{name}"))
    target.chmod(0o755)
    return target


def image_files(work: Path) -> Path:
    """image_files/ as a tar with the owners and modes of the table."""
    return tar_of(IMAGE_FILES, read_modes(MODES_FILE), work / "image_files.tar")


def build_vm_files(work: Path) -> Path:
    """What is laid over the base's tree so that Packer gets into a VM on it, as a tar."""
    return tar_of(BUILD_VM_FILES, {}, work / "build-vm.tar")


def tar_of(tree: Path, modes: dict[str, Mode], target: Path) -> Path:
    """A folder as a tar whose bytes know nothing of the clone, the umask or the clock."""
    names = {f"/{path.relative_to(tree)}" for path in files_of(tree)}
    folders = {str(Path(name).parent) for name in names}
    folders |= {str(parent) for folder in folders for parent in Path(folder).parents}
    if unknown := sorted(set(modes) - names - folders):
        raise Failure(f"{MODES_FILE.name} names what {tree.name}/ lacks: {', '.join(unknown)}")
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted((folders - {"/"}) | names):
            path = tree / name.lstrip("/")
            entry = tar.gettarinfo(path, arcname=f".{name}")
            default = 0o755 if entry.isdir() else 0o777 if entry.issym() else 0o644
            row = modes.get(name, Mode(default, "root", "root"))
            entry.mode, entry.uname, entry.gname = row.mode, row.owner, row.group
            entry.uid = entry.gid = 0
            entry.mtime = SOURCE_DATE_EPOCH
            tar.addfile(entry, io.BytesIO(path.read_bytes()) if entry.isreg() else None)
    return target


def read_modes(table: Path) -> dict[str, Mode]:
    """Rows `MODE OWNER GROUP PATH`; raises Failure naming the line that is none."""
    found = {}
    for number, line in enumerate(table.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            mode, owner, group, path = words
            found[path] = Mode(int(mode, 8), owner, group)
        except ValueError as error:
            raise Failure(f"{table.name}:{number}: not MODE OWNER GROUP PATH: {line}") from error
    return found


def access(public_key: str, instance: str, work: Path, *, of_cloud_image: bool) -> dict[str, Path]:
    """What lets Packer in: the key for mlflow-image-build.service, or cloud-init's seed with it.

    instance: cloud-init takes the seed's key only if it has not met this id on the disk before.
    """
    content = {"authorized_keys": f"{public_key}\n"}
    if of_cloud_image:
        content = {
            "user-data": build_seed(public_key),
            "meta-data": f"instance-id: {instance}\nlocal-hostname: build\n",
        }
    for name, text in content.items():
        (work / name).write_text(text)
    return {name: work / name for name in content}


def write_disc(files: dict[str, Path], work: Path) -> Path:
    """One ISO with these files, label cidata (cloud-init's NoCloud); only its owner may read it."""
    listing = work / "payload.list"
    listing.write_text("".join(f"{name}={path.resolve()}\n" for name, path in files.items()))
    disc = work / "payload.iso"
    seed.write_private(disc, b"")
    options = ["-quiet", "-volid", "cidata", "-rock", "-iso-level", "3", "-graft-points"]
    command.run([*seed.iso_tool(), *options, "-path-list", listing, "-output", disc])
    return disc
