"""The recipe: from a definition to a sealed, verified image in dist/."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from mlflow_image import (
    accelerator,
    bake,
    cloud_image,
    collect,
    disk,
    inputs,
    layers,
    manifest,
    packer,
    payload,
    plan,
    progress,
    promote,
    rootless,
    seal,
    tree,
    verify,
    vms,
)
from mlflow_image.definition import Definition
from mlflow_image.errors import Refusals
from mlflow_image.images import Image, login_of
from mlflow_image.inputs import Freshness, Inputs
from mlflow_image.layers import Layer
from mlflow_image.manifest import Candidate
from mlflow_image.operating_systems import support_warning
from mlflow_image.packer import Packer
from mlflow_image.paths import STATE, cache
from mlflow_image.progress import Step
from mlflow_image.store import hash_file

#: What a cold build writes beside the store: the tree three times, three disks, one tar.
NEEDED_DISK_MIB = 12_000
NEEDED_MEMORY_MIB = 2_000


@dataclass(frozen=True)
class Options:
    """How a build is run; none of it changes what the image is."""

    freshness: Freshness = field(default_factory=Freshness)
    packer: str = ""
    firmware: str = "bios"
    keep_on_error: bool = False
    verify: bool = True
    #: Name of a layer that is made anew, with all above it.
    rebuild: str = ""
    apt_mirror: str = ""


def build_image(definition: Definition, options: Options) -> Image:
    """Make what is stale, seal, verify, promote; returns the image in dist/.

    Raises Refusal before anything is started, Failure when the work fails; either way
    nothing half-made is left and nothing runs.
    """
    warn_of_support(definition)
    wanted = inputs.gather(definition, options.freshness, options.apt_mirror)
    stack = layers.of(wanted)
    rows = plan.make(stack, options.rebuild)
    progress.say(plan.table(rows))
    progress.say(plan.outlook(rows))
    stale = [row.layer for row in rows if not row.cached]
    for layer in stack:
        if layer not in stale:
            collect.touch(layer.directory)
    name = manifest.image_id(stack[-1], wanted)
    if not stale and (image := promote.existing(name, options.verify)):
        progress.say(f"nothing changed: {image.directory} is up to date")
        return image
    if stale:
        require_host()
        with_packer = packer.find(options.packer)
        progress.say(f"using {with_packer}")
        needed = inputs.needed_by({layer.name for layer in stale}, wanted)
        inputs.fetch(needed, offline=options.freshness.offline, mirror=options.apt_mirror)
        for layer in stale:
            make_layer(layer, stack, wanted, with_packer, options, remake=layer.built)
    else:
        with_packer = packer.find(options.packer)
    candidate = manifest.complete(stack, wanted, with_packer)
    logs = logs_folder("verify")
    if options.verify:
        candidate = verified(candidate, logs)
    kept = {layer.name: layer.directory / "logs" for layer in stack}
    image = promote.into_dist(candidate, {**kept, "verify": logs})
    in_use = {layer.directory / layers.RECORD_NAME for layer in stack}
    collect.collect(in_use | wanted.files | vms.backing_files())
    return image


def verified(candidate: Candidate, logs: Path) -> Candidate:
    """Run the image's contract; returns the candidate marked, raises Failure if it fails."""
    record = verify.run(candidate.disk, logs, login_of(candidate.manifest))
    content = {**candidate.manifest, "verification": record}
    manifest.write(candidate.directory, content)
    verify.refuse_unverified(record, logs)
    return Candidate(candidate.directory, content)


def make_layer(
    layer: Layer,
    stack: list[Layer],
    wanted: Inputs,
    with_packer: Packer,
    options: Options,
    *,
    remake: bool,
) -> None:
    """Make one layer in a folder of its own and rename it into the cache when it is whole.

    remake: also when it is there already, as --rebuild asks for.
    """
    parent = stack[stack.index(layer) - 1]
    with wanted.store.locked(f"layer-{layer.name}-{layer.key[:16]}"):
        if layer.built and not remake:
            return  # another build made it meanwhile
        with workplace(layer, options.keep_on_error) as place:
            with progress.step(f"{layer.name}: {layer.title}") as step:
                makers = {"base": make_base, "sealed": make_sealed}
                maker = makers.get(layer.name)
                if maker:
                    maker(layer, parent, wanted, place, step)
                else:
                    bake_layer(layer, parent, wanted, place, step, with_packer, options)
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


def make_base(layer: Layer, parent: Layer, wanted: Inputs, place: Place, step: Step) -> None:
    """apt packages -> tree -> disk; or the vendor's cloud image as it is, on a larger disk."""
    system, target = wanted.definition.system, place.result / "disk.qcow2"
    if wanted.cloud_image:
        step.phase("checking the cloud image")
        keyring = inputs.image_keyring(wanted, wanted.cloud_image)
        image = cloud_image.verified(wanted.cloud_image, keyring, wanted.store)
        step.phase("making the disk")
        disk.from_image(image, target, wanted.disk_mib)
    elif wanted.packages:
        step.phase("unpacking and configuring apt packages")
        tar = tree.build(wanted.packages, system, wanted.store, place.work, step)
        shutil.copyfile(place.work / "mmdebstrap.log", place.logs / "mmdebstrap.log")
        step.phase("making the disk")
        raw = disk.build(tar, system, wanted.disk_mib, place.work, step)
        disk.to_qcow2(raw, target, compress=False)


def bake_layer(
    layer: Layer,
    parent: Layer,
    wanted: Inputs,
    place: Place,
    step: Step,
    with_packer: Packer,
    options: Options,
) -> None:
    """Run a layer's steps in a VM on its parent's disk."""
    if layer.name == "python":
        files = payload.python_files(wanted, place.work)
    else:
        about = place.work / "mlflow-image.json"
        about.write_text(json.dumps(manifest.about(layer, wanted), indent=1) + "\n")
        files = {"image_files.tar": payload.image_files(place.work), "mlflow-image.json": about}
    baked, handover = bake.run(
        layer,
        parent.directory / "disk.qcow2",
        files,
        {"PYTHON_DISTRIBUTION": wanted.distribution, "PYTHON_VERSION": wanted.python},
        place.work,
        place.logs,
        with_packer=with_packer,
        step=step,
        firmware=options.firmware,
        keep_on_error=options.keep_on_error,
        of_cloud_image=wanted.cloud_image is not None,
    )
    if layer.name == "python":
        baked.replace(place.result / "disk.qcow2")
    else:
        handover.replace(place.result / "tree.tar")


def make_sealed(layer: Layer, parent: Layer, wanted: Inputs, place: Place, step: Step) -> None:
    """The handed-over tree -> filtered -> the same kind of disk as the base, compressed."""
    step.phase("filtering the tree and making the disk")
    definition = wanted.definition
    raw = disk.build(
        parent.directory / "tree.tar",
        definition.system,
        wanted.disk_mib,
        place.work,
        step,
        seal.tree_filter,
    )
    step.phase("compressing the disk")
    disk.to_qcow2(raw, place.result / "disk.qcow2", compress=True)
    (place.result / "raw.sha256").write_text(hash_file(raw) + "\n")


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
        if not (keep_on_error and isinstance(error, Exception)):
            rootless.remove(work)
        raise
    rootless.remove(work)


def logs_folder(of: str) -> Path:
    """A new folder for the logs of one step of this build."""
    return STATE / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{of}-{os.getpid()}"


def require_host() -> None:
    """Refuse early what would fail late, all at once: disk, memory, user namespaces.

    Says once how the guest's processor is run.
    """
    rootless.require()
    place = cache()
    place.mkdir(parents=True, exist_ok=True)
    free_disk = shutil.disk_usage(place).free >> 20
    free_memory = packer.free_memory_mib()
    faults = []
    if free_disk < NEEDED_DISK_MIB:
        faults.append(
            f"not enough disk: {NEEDED_DISK_MIB} MiB are needed in {place}, {free_disk} MiB are "
            "free; `invoke clean`, or put the cache elsewhere with MLFLOW_IMAGE_CACHE"
        )
    if free_memory < NEEDED_MEMORY_MIB:
        faults.append(
            f"not enough memory: {NEEDED_MEMORY_MIB} MiB are needed, {free_memory} MiB are free; "
            "stop a VM (`invoke status`), or other programs"
        )
    if faults:
        raise Refusals("this host cannot build an image now:", faults)
    progress.say(str(accelerator.choose()))


def warn_of_support(definition: Definition) -> None:
    """Say it when the operating system is near the end of its support."""
    if warning := support_warning(definition.system, date.today()):
        progress.warn(warning)


def tell(image: Image) -> None:
    """What was made, how large, how long each step took, what to type next."""
    known = image.manifest
    size = progress.human_bytes(known["disk"]["bytes"])
    times = ", ".join(
        f"{name} {progress.human_seconds(taken['total'])}"
        for name, taken in known["seconds"].items()
        if taken["total"] is not None
    )
    check = known["verification"]
    lines = [
        "",
        f"image     {image.id}",
        f"disk      {image.disk} ({size}, grows from {known['disk']['virtual_mib']} MiB)",
        f"holds     {known['os']}, {known['python']['distribution']} Python "
        f"{known['python']['version']}, mlflow {known['mlflow']}",
        f"times     {times}",
        f"verified  {check['result']}"
        + (f", {check['tests']} checks in {check['seconds']:.0f} s" if "tests" in check else ""),
        "",
        "next: scripts/invoke up       (a VM to try it)",
        "      scripts/invoke smoke-test",
    ]
    for line in lines:
        progress.say(line)
