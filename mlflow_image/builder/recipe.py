"""The order of a build: from a definition to a sealed, verified image in dist/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from mlflow_image import progress
from mlflow_image.builder import cache, describe, keys, layers, make_layer, plan, requirements
from mlflow_image.builder.bake import packer, packer_from_go
from mlflow_image.builder.bake.in_vm import How
from mlflow_image.builder.bake.layer import Job
from mlflow_image.builder.layers import Layer
from mlflow_image.builder.place import logs_folder
from mlflow_image.checks import contract
from mlflow_image.errors import Failure
from mlflow_image.images import manifest, promote
from mlflow_image.images.find import Image
from mlflow_image.images.manifest import Candidate
from mlflow_image.inputs import gather
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Freshness, Inputs
from mlflow_image.inputs.operating_systems import support_warning
from mlflow_image.paths import HERE, Checkout
from mlflow_image.server import vms


@dataclass(frozen=True)
class Options:
    """How a build runs; nothing here changes what the image is.

    rebuild: name of a layer that is made again, with all layers above it.
    """

    freshness: Freshness = field(default_factory=Freshness)
    packer: str = ""
    firmware: str = "bios"
    keep_on_error: bool = False
    verify: bool = True
    rebuild: str = ""
    apt_mirror: str = ""
    checkout: Checkout = field(default=HERE)


def build_image(definition: Definition, options: Options) -> Image:
    """Make the stale layers, seal, verify, promote; returns the image in dist/.

    Raises Refusal before anything is started, Failure when the work fails; after either,
    nothing incomplete is left and nothing runs.
    """
    warn_of_support(definition)
    inputs = gather.gather(
        definition, options.freshness, options.apt_mirror, checkout=options.checkout
    )
    stack = keys.of(inputs, options.checkout)
    used = {layer.directory / layers.RECORD_NAME for layer in stack} | inputs.files
    used |= packer_from_go.programs()
    with cache.claim(used):
        rows = plan.decide(stack, options.rebuild)
        if discard_altered(rows):
            rows = plan.decide(stack, options.rebuild)
        progress.say(plan.table(rows))
        progress.say(plan.outlook(rows))
        stale = [row for row in rows if not row.cached]
        if not stale and (image := up_to_date(stack, inputs, options)):
            return image
        candidate = make(stack, stale, inputs, options)
        return verify_and_promote(candidate, stack, options)


def discard_altered(rows: Sequence[plan.Row]) -> bool:
    """Discard cached layers whose tree was altered, if stale layers would read it.

    Returns whether there were any.
    """
    if all(row.cached for row in rows):
        return False
    altered = [row.layer for row in rows if row.cached and row.layer.tree_is_altered]
    for layer in altered:
        progress.warn(f"the layer {layer.name} was altered in the cache; it will be made again")
        (layer.directory / layers.RECORD_NAME).unlink()
    return bool(altered)


def up_to_date(stack: Sequence[Layer], inputs: Inputs, options: Options) -> Image | None:
    """The image that these layers became already, if it is still in dist/."""
    found = promote.existing(
        describe.image_id(stack[-1], inputs),
        must_have_passed=options.verify,
        checkout=options.checkout,
    )
    if found:
        progress.say(f"nothing changed: {found.directory} is up to date")
    return found


def make(
    stack: Sequence[Layer], stale: Sequence[plan.Row], inputs: Inputs, options: Options
) -> Candidate:
    """Fetch what is missing, make the stale layers, describe the sealed disk."""
    offline = options.freshness.offline
    names = {row.layer.name for row in stale}
    if stale:
        requirements.require_host(names, inputs)
    with_packer = packer.find(options.packer, offline=offline)
    if stale:
        progress.say(f"using {with_packer}")
        needed = gather.needed_by(names, inputs, offline=offline)
        gather.fetch(needed, offline=offline, mirror=options.apt_mirror)
    how = How(with_packer, options.firmware, options.keep_on_error)
    for row in stale:
        layer = row.layer
        below = tuple(one.directory for one in stack[: stack.index(layer)])
        job = Job(layer.name, layer.key, below, inputs, how, options.checkout)
        make_layer.make_layer(layer, job, remake=row.remake)
    return describe.complete(stack, inputs, with_packer, options.checkout)


def verify_and_promote(candidate: Candidate, stack: Sequence[Layer], options: Options) -> Image:
    """Check the image's contract if asked to, move the image into dist/, bound the cache.

    Raises Failure, and leaves dist/ as it is, when the contract does not pass.
    """
    logs = logs_folder("verify", options.checkout)
    if options.verify:
        candidate = verify(candidate, logs, options.checkout)
    kept = {layer.name: layer.directory / "logs" for layer in stack}
    image = promote.into_dist(candidate, {**kept, "verify": logs}, options.checkout)
    cache.bound(vms.backing_files(), checkout=options.checkout)
    return image


def verify(candidate: Candidate, logs: Path, checkout: Checkout) -> Candidate:
    """Run the image's contract and record its result; raises Failure when it does not pass."""
    known = candidate.manifest
    result = contract.run(candidate.disk, logs, known.login, checkout)
    checked = replace(known, verification=result)
    manifest.write(candidate.directory, checked)
    try:
        contract.require_passed(checked.verification, logs)
    except Failure as failure:
        failure.add_remedy("the image was not promoted into dist/")
        raise
    return replace(candidate, manifest=checked)


def warn_of_support(definition: Definition) -> None:
    """Warn when the operating system is near the end of its support."""
    if warning := support_warning(definition.system, date.today()):
        progress.warn(warning)


def report(image: Image) -> None:
    """Print what was made, its size, how long each step took, what to type next."""
    known = image.manifest
    if known is None:
        return
    size = progress.human_bytes(known.disk.bytes)
    times = ", ".join(
        f"{name} {progress.human_seconds(taken['total'])}"
        for name, taken in known.seconds.items()
        if taken["total"] is not None
    )
    check = known.verification
    checks = f", {check.tests} checks in {check.seconds:.0f} s" if check.seconds else ""
    lines = [
        "",
        f"image     {image.id}",
        f"disk      {image.disk} ({size}, grows from {known.disk.virtual_mib} MiB)",
        f"contents  {known.os}, {known.python.distribution} Python "
        f"{known.python.version}, mlflow {known.mlflow}",
        f"times     {times}",
        f"verified  {check.result}{checks}",
        "",
        "next: `invoke up` starts a VM; `invoke smoke-test` tests the image",
    ]
    for line in lines:
        progress.say(line)
