"""What a build VM is given: one disc with Packer's key and everything that its steps read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mlflow_image import command, files
from mlflow_image.builder.bake import on_host
from mlflow_image.builder.bake.template import build_seed
from mlflow_image.builder.disk import tarball
from mlflow_image.builder.layers import ANACONDA_SCRIPT, PREPARE_FILES, PREPARE_FOLDER
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE
from mlflow_image.vm import seed


def environment_files(inputs: Inputs, work: Path) -> dict[str, Path]:
    """What environment.sh makes /opt/mlflow from; every wheel is hashed again."""
    requirements = work / "requirements.txt"
    requirements.write_text("".join(f"{wheel.line}\n" for wheel in inputs.wheels))
    script = on_host.ENVIRONMENT_SCRIPT
    found = {"requirements.txt": requirements, script.name: script}
    store = inputs.store
    for wheel in inputs.wheels:
        found[f"wheels/{wheel.filename}"] = store.verified(wheel.sha256, wheel.filename)
    for tool in inputs.tools:
        archive = store.verified(tool.sha256, tool.filename)
        found[tool.name] = program_of(archive, f"{tool.name}-{tool.version}", tool.name, work)
    if inputs.installer:
        name = anaconda.NAME_ON_DISC
        found[name] = store.verified(inputs.installer.sha256, inputs.installer.file)
        found[ANACONDA_SCRIPT.name] = ANACONDA_SCRIPT
    return found | {f"prepare/{n}": HERE.image_files / PREPARE_FOLDER / n for n in PREPARE_FILES}


def program_of(wheel: Path, distribution: str, name: str, work: Path) -> Path:
    """A program out of a wheel's scripts folder (PEP 427)."""
    target = work / name
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(f"{distribution}.data/scripts/{name}"))
    target.chmod(0o755)
    return target


def image_files(work: Path) -> Path:
    """image_files/ as a tar with the owners and modes of the table."""
    return tarball.write(HERE.image_files, work / "image_files.tar", HERE.modes_file)


def build_vm_files(work: Path) -> Path:
    """What is laid over the base's tree so that Packer gets into a VM on it, as a tar."""
    return tarball.write(HERE.build_vm_files, work / "build-vm.tar")


def access(public_key: str, work: Path, *, of_cloud_image: bool) -> dict[str, Path]:
    """What lets Packer in: the key for mlflow-image-build.service, or cloud-init's seed with it."""
    content = {"authorized_keys": f"{public_key}\n"}
    if of_cloud_image:
        content = {
            "user-data": build_seed(public_key),
            "meta-data": "instance-id: build\nlocal-hostname: build\n",
        }
    for name, text in content.items():
        (work / name).write_text(text)
    return {name: work / name for name in content}


def write_disc(content: dict[str, Path], work: Path) -> Path:
    """One ISO with these files, label cidata (cloud-init's NoCloud); only its owner may read it."""
    listing = work / "payload.list"
    listing.write_text("".join(f"{name}={path.resolve()}\n" for name, path in content.items()))
    disc = work / "payload.iso"
    files.write_private(disc, b"")
    options = ["-quiet", "-volid", "cidata", "-rock", "-iso-level", "3", "-graft-points"]
    command.run([*seed.iso_tool(), *options, "-path-list", listing, "-output", disc])
    return disc
