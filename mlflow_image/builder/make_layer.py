"""Makes one layer in a folder of its own, and renames it into the cache when it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import progress
from mlflow_image.builder import layers
from mlflow_image.builder.bake import in_vm, payload
from mlflow_image.builder.bake import on_host as prepared
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.disk import raw as raw_disk
from mlflow_image.builder.disk import seal, tree
from mlflow_image.builder.layers import Layer
from mlflow_image.errors import Failure
from mlflow_image.files import hash_file
from mlflow_image.host import rootless
from mlflow_image.images import manifest
from mlflow_image.inputs import cloud_image, gather
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, cache
from mlflow_image.progress import Step

#: In a layer's folder: the part of the finished tree that it is.
TREE_NAME = "tree.tar"
#: In the Python layer's folder: the same as a file system, which the layer above has as its /opt.
OPT_NAME = "opt.ext4"


@dataclass(frozen=True)
class How:
    """How layers are baked; none of it changes what they are."""

    packer: Packer
    #: The build VM's.
    firmware: str = "bios"
    #: The VM of a failed bake stays up for a look.
    keep_on_error: bool = False


def make_layer(
    layer: Layer, stack: list[Layer], wanted: Inputs, how: How, *, remake: bool = False
) -> None:
    """Make one layer in a folder of its own and rename it into the cache when it is whole.

    remake: also when it is there already, as --rebuild asks for.
    """
    makers = {
        "base": make_base,
        "python": make_python,
        "image-files": make_image_files,
        "sealed": make_sealed,
    }
    below = stack[: stack.index(layer)]

    def say_waiting() -> None:
        progress.say(f"waiting for another build, which makes {layer.name} just now")

    with wanted.store.locked(f"layer-{layer.name}-{layer.key[:16]}", say_waiting):
        if layer.built and not remake:
            return  # another build made it meanwhile
        with workplace(layer, how.keep_on_error) as place:
            with progress.step(f"{layer.name}: {layer.title}") as step:
                makers[layer.name](layer, below, wanted, place, step, how)
            record = layer.record(step.seconds, step.phases)
            (place.result / layers.RECORD_NAME).write_text(json.dumps(record, indent=1))
            shutil.copytree(place.logs, place.result / "logs")
            if layer.directory.exists():
                shutil.rmtree(layer.directory)
            layer.directory.parent.mkdir(parents=True, exist_ok=True)
            place.result.rename(layer.directory)


@dataclass(frozen=True)
class Place:
    """Where a layer is made: scratch space, what will be kept, logs."""

    work: Path
    result: Path
    logs: Path


def make_base(
    layer: Layer, below: list[Layer], wanted: Inputs, place: Place, step: Step, how: How
) -> None:
    """apt packages -> tree -> disk; or the vendor's cloud image as it is, on a larger disk."""
    system, target = wanted.definition.system, place.result / "disk.qcow2"
    if wanted.cloud_image:
        step.phase("checking the cloud image")
        keyring = gather.image_keyring(wanted, wanted.cloud_image)
        image = cloud_image.verified(wanted.cloud_image, keyring, wanted.store)
        step.phase("making the disk")
        raw_disk.from_image(image, target, wanted.disk_mib)
    elif wanted.packages:
        step.phase("unpacking and configuring apt packages")
        tar = tree.build(wanted.packages, system, wanted.store, place.work, place.logs, step)
        step.phase("making the disk")
        tars = [tar, payload.build_vm_files(place.work)]
        raw = raw_disk.build(tars, system, wanted.disk_mib, place.work, step)
        raw_disk.to_qcow2(raw, target, compress=False)


def make_python(
    layer: Layer, below: list[Layer], wanted: Inputs, place: Place, step: Step, how: How
) -> None:
    """/opt as a tar, made on this host or in a VM, and as a file system for the layer above.

    Anaconda's Python is not known on this host.
    """
    tar = place.result / TREE_NAME
    files = payload.environment_files(wanted, place.work)
    on_host = not wanted.installer and prepared.environment(wanted, files, place.work, step)
    made = on_host or bake_layer(layer, below[0], wanted, place, step, how, files)
    made.replace(tar)
    step.phase("making a file system of /opt")
    raw_disk.file_system(tar, "opt", place.result / OPT_NAME, place.work)


def make_image_files(
    layer: Layer, below: list[Layer], wanted: Inputs, place: Place, step: Step, how: How
) -> None:
    """The base's tree with image_files/ laid over it, and all that goes with that, as a tar."""
    about = place.work / "mlflow-image.json"
    about.write_text(json.dumps(manifest.about(layer, wanted), indent=1) + "\n")
    files = {"image_files.tar": payload.image_files(place.work), about.name: about}
    opt = below[1].directory / OPT_NAME
    made = bake_layer(layer, below[0], wanted, place, step, how, files, opt)
    made.replace(place.result / TREE_NAME)


def bake_layer(
    layer: Layer,
    base: Layer,
    wanted: Inputs,
    place: Place,
    step: Step,
    how: How,
    files: dict[str, Path],
    opt: Path | None = None,
) -> Path:
    """Run a layer's steps in a VM on the base's disk; returns the tar of what it made."""
    return in_vm.run(
        layer,
        base.directory / "disk.qcow2",
        layers.called_scripts(layer.name) | files,
        {"PYTHON_DISTRIBUTION": wanted.distribution, "PYTHON_VERSION": wanted.python},
        place.work,
        place.logs,
        with_packer=how.packer,
        step=step,
        opt=opt,
        firmware=how.firmware,
        keep_on_error=how.keep_on_error,
        of_cloud_image=wanted.cloud_image is not None,
    )


def make_sealed(
    layer: Layer, below: list[Layer], wanted: Inputs, place: Place, step: Step, how: How
) -> None:
    """The tree of the layers below -> filtered -> the same kind of disk as the base, compressed."""
    step.phase("filtering the tree and making the disk")
    definition = wanted.definition
    raw = raw_disk.build(
        [made.directory / TREE_NAME for made in below[1:]],  # the base is in the last one
        definition.system,
        wanted.disk_mib,
        place.work,
        step,
        seal.tree_filter,
    )
    step.phase("compressing the disk")
    raw_disk.to_qcow2(raw, place.result / "disk.qcow2", compress=True)
    (place.result / manifest.RAW_SUM_NAME).write_text(hash_file(raw) + "\n")


@contextlib.contextmanager
def workplace(layer: Layer, keep_on_error: bool) -> Iterator[Place]:
    """Folders for one layer; the scratch goes in any case but a kept VM's, the logs stay."""
    work = cache() / "work" / f"{layer.name}-{os.getpid()}"
    place = Place(work, work / "result", logs_folder(layer.name))
    rootless.remove(work)
    for folder in (place.work, place.result, place.logs):
        folder.mkdir(parents=True)
    work.chmod(0o700)
    try:
        yield place
    except BaseException as error:
        if isinstance(error, Failure):
            name_logs(error, layer, place.logs)
        if not (keep_on_error and isinstance(error, Exception)):
            rootless.remove(work)
        raise
    rootless.remove(work)


def name_logs(failure: Failure, layer: Layer, logs: Path) -> None:
    """Add to a failure which layer it was, and where its logs are if there are any."""
    failure.what = f"the layer {layer.name} could not be made: {failure.what}"
    if any(logs.iterdir()) and str(logs) not in failure.remedy:
        failure.add_remedy(f"full logs: {logs}")


def logs_folder(of: str) -> Path:
    """A new folder for the logs of one step of this build."""
    return HERE.state / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{of}-{os.getpid()}"
