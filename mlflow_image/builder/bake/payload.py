"""What a build VM is given: one disc with Packer's key and everything that the steps read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mlflow_image import command, files
from mlflow_image.builder.bake import steps
from mlflow_image.builder.bake.template import build_seed
from mlflow_image.builder.disk import tarball
from mlflow_image.inputs import anaconda, plugin
from mlflow_image.inputs.gather import Inputs
from mlflow_image.inputs.wheels import wheel_of
from mlflow_image.paths import HERE, Checkout
from mlflow_image.vm import seed


def environment_files(inputs: Inputs, checkout: Checkout, work: Path) -> dict[str, Path]:
    """The files from which environment.sh makes /opt/mlflow; every wheel is hashed again."""
    own = plugin.build(work, checkout)
    requirements = work / "requirements.txt"
    every = (*inputs.wheels, wheel_of(own))
    requirements.write_text("".join(f"{wheel.line}\n" for wheel in every))
    script = checkout.guest_scripts / steps.ENVIRONMENT_SCRIPT
    found = {"requirements.txt": requirements, script.name: script, f"wheels/{own.name}": own}
    store = inputs.store
    for wheel in inputs.wheels:
        found[f"wheels/{wheel.filename}"] = store.verified(wheel.sha256, wheel.filename)
    for tool in inputs.tools:
        archive = store.verified(tool.sha256, tool.filename)
        found[tool.name] = program_of(archive, f"{tool.name}-{tool.version}", tool.name, work)
    if inputs.installer:
        name = anaconda.NAME_ON_DISC
        found[name] = store.verified(inputs.installer.sha256, inputs.installer.file)
        found[steps.CONDA_SCRIPT] = checkout.guest_scripts / steps.CONDA_SCRIPT
    prepared = steps.prepare_files(checkout)
    return found | {f"prepare/{name}": file for name, file in prepared.items()}


def program_of(wheel: Path, distribution: str, name: str, work: Path) -> Path:
    """A program from a wheel's scripts folder (PEP 427)."""
    target = work / name
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(f"{distribution}.data/scripts/{name}"))
    target.chmod(0o755)
    return target


def image_files(checkout: Checkout, work: Path) -> Path:
    """image_files/ as a tar with the owners and modes of the table."""
    return tarball.write(checkout.image_files, work / "image_files.tar", checkout.modes_file)


def build_vm_files(checkout: Checkout, work: Path) -> Path:
    """The files that let Packer log into a VM on the base, as a tar."""
    return tarball.write(checkout.build_vm_files, work / "build-vm.tar")


def access(
    public_key: str, work: Path, *, of_cloud_image: bool, checkout: Checkout = HERE
) -> dict[str, Path]:
    """Packer's public key, for mlflow-image-build.service or in a seed for cloud-init."""
    content = {"authorized_keys": f"{public_key}\n"}
    if of_cloud_image:
        content = {
            "user-data": build_seed(public_key, checkout),
            "meta-data": "instance-id: build\nlocal-hostname: build\n",
        }
    for name, text in content.items():
        files.write(work / name, text)
    return {name: work / name for name in content}


def write_disc(content: dict[str, Path], work: Path) -> Path:
    """One ISO with these files, label cidata (cloud-init's NoCloud); only its owner can read it."""
    listing = work / "payload.list"
    listing.write_text("".join(f"{name}={path.resolve()}\n" for name, path in content.items()))
    disc = work / "payload.iso"
    files.write_private(disc, b"")
    options = ["-quiet", "-volid", "cidata", "-rock", "-iso-level", "3", "-graft-points"]
    command.run([*seed.iso_tool(), *options, "-path-list", listing, "-output", disc])
    return disc
