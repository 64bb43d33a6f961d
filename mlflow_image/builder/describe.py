"""Makes the manifest of a sealed layer, and the candidate for dist/."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict

from mlflow_image import command
from mlflow_image.builder import layers
from mlflow_image.builder.bake import cloud_init
from mlflow_image.builder.bake.about import about, settings_schema
from mlflow_image.builder.bake.layer import RAW_SUM_NAME, TREE_NAME
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.layers import Layer
from mlflow_image.host import accelerator
from mlflow_image.images import manifest, provenance
from mlflow_image.images.find import CLIENTS_NAME, CLOUD_INIT_NAME, SCHEMA_NAME
from mlflow_image.images.manifest import (
    DISK_NAME,
    Candidate,
    Disk,
    ImageId,
    Manifest,
    Verification,
)
from mlflow_image.inputs import plugin
from mlflow_image.inputs.gather import Inputs
from mlflow_image.inputs.wheels import lock_file
from mlflow_image.paths import HERE, Checkout


def complete(
    stack: Sequence[Layer], inputs: Inputs, packer: Packer, checkout: Checkout = HERE
) -> Candidate:
    """The candidate of a sealed layer, its manifest written; an earlier verification stays."""
    sealed = stack[-1]
    records = {layer.name: layers.read_record(layer.directory) or {} for layer in stack}
    earlier = manifest.read(sealed.directory)
    made = Manifest(
        **vars(about(inputs, checkout)),
        python_reason=inputs.decision.reason,
        image=image_id(sealed, inputs),
        built_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        git=provenance.git(checkout),
        built_with=built_with(packer),
        keys={layer.name: layer.key for layer in stack},
        seconds={
            name: {"total": record.get("seconds"), "phases": record.get("phases")}
            for name, record in records.items()
        },
        disk=Disk(
            format="qcow2",
            bytes=(sealed.directory / DISK_NAME).stat().st_size,
            virtual_mib=inputs.disk_mib,
            raw_sha256=raw_sha256(sealed),
        ),
        inputs=input_hashes(inputs),
        verification=earlier.verification if earlier else Verification(),
    )
    manifest.write(sealed.directory, made)
    lock = lock_file(inputs.python, checkout)
    archive = sealed.directory / CLOUD_INIT_NAME
    cloud_init.archive(stack[-2].directory / TREE_NAME, archive)
    wheel = plugin.build(sealed.directory, checkout)
    documents = {
        SCHEMA_NAME: settings_schema(checkout),
        CLOUD_INIT_NAME: archive,
        lock.name: lock,
        f"{CLIENTS_NAME}/{wheel.name}": wheel,
    }
    return Candidate(sealed.directory, made, documents)


def image_id(sealed: Layer, inputs: Inputs) -> ImageId:
    """The id of the image that a sealed layer becomes; the layer must be in the cache."""
    definition = inputs.definition
    return ImageId.of_disk(definition.name, definition.os, raw_sha256(sealed))


def raw_sha256(sealed: Layer) -> str:
    """The sha256 of the sealed layer's disk before it was compressed."""
    return (sealed.directory / RAW_SUM_NAME).read_text().strip()


def input_hashes(inputs: Inputs) -> dict[str, dict[str, str]]:
    """Kind of input -> {name: sha256}."""
    found = {
        "apt": {p.label: p.sha256 for p in inputs.apt_packages},
        "wheels": {w.filename: w.sha256 for w in inputs.wheels},
        "tools": {w.filename: w.sha256 for w in inputs.tools},
        "installers": {i.file: i.sha256 for i in (inputs.installer,) if i},
    }
    if inputs.cloud_image:
        found["cloud_image"] = asdict(inputs.cloud_image)
    return found


def built_with(packer: Packer) -> dict[str, str]:
    """The versions of the programs that made the image."""

    def first_version(*argv: str) -> str:
        match = re.search(r"\d+(\.\d+)+", command.run(argv, check=False).stdout)
        return match[0] if match else "unknown"

    return {
        "packer": packer.version_text,
        "qemu": first_version("qemu-system-x86_64", "--version"),
        "mmdebstrap": first_version("mmdebstrap", "--version"),
        "accelerator": accelerator.choose().name,
    }
