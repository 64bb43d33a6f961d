"""Makes one layer's content: the base disk, /opt, image_files/ on the tree, the sealed disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mlflow_image import files
from mlflow_image.builder.bake import in_vm, on_host, payload, steps
from mlflow_image.builder.bake.about import about
from mlflow_image.builder.bake.in_vm import How
from mlflow_image.builder.disk import raw, seal, tree
from mlflow_image.builder.place import Place
from mlflow_image.host import qemu_img
from mlflow_image.images.manifest import DISK_NAME
from mlflow_image.inputs import cloud_image, gather
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, Checkout

#: In a layer's folder: its part of the finished tree.
TREE_NAME = "tree.tar"
#: In the Python layer's folder: the same as a file system, which the next layer mounts at /opt.
OPT_NAME = "opt.ext4"
#: With a sealed disk: the sha256 of its bytes before they were compressed.
RAW_SUM_NAME = "raw.sha256"


@dataclass(frozen=True)
class Job:
    """One layer to make. below: the folders of the finished layers under it, the base first."""

    layer: str
    key: str
    below: tuple[Path, ...]
    inputs: Inputs
    how: How
    checkout: Checkout = field(default=HERE)

    @property
    def base_disk(self) -> Path:
        return self.below[0] / DISK_NAME


def make(job: Job, place: Place) -> None:
    """Make a layer's files in `place.result`. Raises Failure."""
    MAKERS[job.layer](job, place)


def make_base(job: Job, place: Place) -> None:
    """apt packages -> tree -> disk; or the vendor's cloud image unchanged, on a larger disk."""
    inputs, target = job.inputs, place.result / DISK_NAME
    if inputs.cloud_image:
        place.step.phase("checking the cloud image")
        keyring = gather.image_keyring(inputs, inputs.cloud_image)
        image = cloud_image.authenticate(inputs.cloud_image, keyring, inputs.store)
        place.step.phase("making the disk")
        qemu_img.from_image(image, target, inputs.base_disk_mib)
    elif inputs.packages:
        system = inputs.definition.system
        place.step.phase("unpacking and configuring apt packages")
        tar = tree.build(inputs.packages, system, inputs.store, place)
        place.step.phase("making the disk")
        tars = [tar, payload.build_vm_files(job.checkout, place.work)]
        disk = raw.build(tars, system, inputs.base_disk_mib, place)
        qemu_img.to_qcow2(disk, target)


def make_python(job: Job, place: Place) -> None:
    """/opt as a tar, and as a file system for the next layer.

    Made in a chroot on this host; in a VM with an installer, and where the chroot fails.
    """
    contents = payload.environment_files(job.inputs, job.checkout, place.work)
    made = None if job.inputs.installer else on_host.environment(job.inputs, contents, place)
    tar = (made or make_in_vm(job, place, contents)).replace(place.result / TREE_NAME)
    place.step.phase("making a file system of /opt")
    raw.file_system(tar, "opt", place.result / OPT_NAME, place.work)


def make_image_files(job: Job, place: Place) -> None:
    """The base's tree with image_files/ on top of it, and what that needs, as a tar."""
    document = {**asdict(about(job.inputs, job.checkout)), "layer_key": job.key}
    description = place.work / "mlflow-image.json"
    files.write(description, json.dumps(document, indent=1) + "\n")
    contents = {
        "image_files.tar": payload.image_files(job.checkout, place.work),
        description.name: description,
    }
    made = make_in_vm(job, place, contents, opt=job.below[1] / OPT_NAME)
    made.replace(place.result / TREE_NAME)


def make_in_vm(
    job: Job, place: Place, contents: Mapping[str, Path], opt: Path | None = None
) -> Path:
    """Run a layer's steps in a VM on the base's disk; returns the tar of its result."""
    inputs = job.inputs
    return in_vm.run(
        in_vm.Job(
            layer=job.layer,
            base_disk=job.base_disk,
            files={**steps.called_scripts(job.layer, job.checkout), **contents},
            settings=settings(inputs),
            place=place,
            how=job.how,
            opt=opt,
            of_cloud_image=inputs.cloud_image is not None,
            checkout=job.checkout,
        )
    )


def settings(inputs: Inputs) -> dict[str, str]:
    """The environment of the steps: which Python, and what conda.sh needs to know of it."""
    found = {"PYTHON_DISTRIBUTION": inputs.distribution, "PYTHON_VERSION": inputs.python}
    if installer := inputs.installer:
        found |= {
            "DISTRIBUTION_NAME": installer.name,
            "DISTRIBUTION_PREFIX": installer.prefix,
            "INSTALLER_SHA256": installer.sha256,
            "INSTALLED_BYTES": str(installer.installed_bytes),
            "KEEP_DISTRIBUTION": json.dumps(inputs.keeps_distribution),
        }
    return found


def make_sealed(job: Job, place: Place) -> None:
    """The tree of the layers below, filtered, as the same kind of disk as the base, compressed."""
    place.step.phase("filtering the tree and making the disk")
    inputs = job.inputs

    def tree_filter(tree: Path) -> None:
        seal.tree_filter(tree, job.checkout.build_vm_files)

    disk = raw.build(
        [below / TREE_NAME for below in job.below[1:]],  # the last one includes the base
        inputs.definition.system,
        inputs.disk_mib,
        place,
        tree_filter,
    )
    place.step.phase("compressing the disk")
    qemu_img.to_qcow2(disk, place.result / DISK_NAME, compress=True)
    files.write(place.result / RAW_SUM_NAME, files.hash_file(disk) + "\n")


MAKERS: dict[str, Callable[[Job, Place], None]] = {
    "base": make_base,
    "python": make_python,
    "image-files": make_image_files,
    "sealed": make_sealed,
}
