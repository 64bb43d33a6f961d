"""The recipe: from a definition to a sealed, verified image in dist/."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from mlflow_image import progress
from mlflow_image.builder import cache as layer_cache
from mlflow_image.builder import layers, make_layer, plan
from mlflow_image.builder.bake import packer
from mlflow_image.builder.layers import Layer
from mlflow_image.checks import contract
from mlflow_image.errors import Failure, Refusals
from mlflow_image.host import accelerator, rootless
from mlflow_image.images import manifest, promote
from mlflow_image.images.find import Image, login_of
from mlflow_image.images.manifest import Candidate
from mlflow_image.inputs import gather
from mlflow_image.inputs.anaconda import Installer
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Freshness, Inputs
from mlflow_image.inputs.operating_systems import support_warning
from mlflow_image.paths import cache
from mlflow_image.server import vms

#: What a cold build writes beside the store: trees, their tars, disks.
NEEDED_DISK_MIB = 12_000
#: How often such a build has Anaconda's files at once: disks, trees, tars (counted, not measured).
ANACONDA_COPIES = 4
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
    wanted = gather.gather(definition, options.freshness, options.apt_mirror)
    stack = layers.of(wanted)
    used = {layer.directory / layers.RECORD_NAME for layer in stack} | wanted.files
    with layer_cache.claim(used):
        return make(stack, wanted, options)


def make(stack: list[Layer], wanted: Inputs, options: Options) -> Image:
    """Make the stale layers, verify what comes out, promote it; returns the image in dist/."""
    rows = plan.make(stack, options.rebuild)
    progress.say(plan.table(rows))
    progress.say(plan.outlook(rows))
    stale = [row.layer for row in rows if not row.cached]
    if not stale:
        name = manifest.image_id(stack[-1], wanted)
        if image := promote.existing(name, options.verify):
            progress.say(f"nothing changed: {image.directory} is up to date")
            return image
    else:
        require_host(wanted.installer)
    with_packer = packer.find(options.packer, offline=options.freshness.offline)
    if stale:
        progress.say(f"using {with_packer}")
        offline = options.freshness.offline
        needed = gather.needed_by({layer.name for layer in stale}, wanted, offline=offline)
        gather.fetch(needed, offline=offline, mirror=options.apt_mirror)
    how = make_layer.How(with_packer, options.firmware, options.keep_on_error)
    for layer in stale:
        make_layer.make_layer(layer, stack, wanted, how, remake=layer.built)
    candidate = manifest.complete(stack, wanted, with_packer)
    logs = make_layer.logs_folder("verify")
    if options.verify:
        candidate = verified(candidate, logs)
    kept = {layer.name: layer.directory / "logs" for layer in stack}
    image = promote.into_dist(candidate, {**kept, "verify": logs})
    layer_cache.collect(vms.backing_files())
    return image


def verified(candidate: Candidate, logs: Path) -> Candidate:
    """Run the image's contract; returns the candidate marked, raises Failure if it fails."""
    record = contract.run(candidate.disk, logs, login_of(candidate.manifest))
    content = {**candidate.manifest, "verification": record}
    manifest.write(candidate.directory, content)
    try:
        contract.refuse_unverified(record, logs)
    except Failure as failure:
        failure.add_remedy("the image is not promoted into dist/")
        raise
    return Candidate(candidate.directory, content)


def require_host(installer: Installer | None = None) -> None:
    """Refuse early what would fail late, all at once: disk, memory, user namespaces.

    Says once how the guest's processor is run.
    """
    rootless.require()
    place = cache()
    place.mkdir(parents=True, exist_ok=True)
    anaconda_bytes = installer.installed_bytes if installer else 0
    needed_disk = NEEDED_DISK_MIB + (ANACONDA_COPIES * anaconda_bytes >> 20)
    free_disk = shutil.disk_usage(place).free >> 20
    free_memory = packer.free_memory_mib()
    faults = []
    if free_disk < needed_disk:
        faults.append(
            f"not enough disk: {needed_disk} MiB are needed in {place}, {free_disk} MiB are "
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
        "next: `invoke up` (a VM to try it), or `invoke smoke-test`",
    ]
    for line in lines:
        progress.say(line)
