"""The layers of a build and their keys: each key holds everything that decides the layer's bytes.

Whatever a layer writes is in its key. Code counts by whole rooms, so that no file is forgotten;
a key includes the key of the layer below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow_image.builder.bake import steps
from mlflow_image.builder.bake.about import about
from mlflow_image.builder.disk.tarball import files_of
from mlflow_image.builder.layers import Layer
from mlflow_image.files import hash_file
from mlflow_image.inputs import plugin
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, Checkout

#: The code that makes layers; all of it is in the key of the base, and so in every other.
ROOMS = ("host", "builder/disk", "builder/bake")
NAMES = ("base", "python", "image-files", "sealed")
SHOWN_CHARACTERS = 12


def of(inputs: Inputs, checkout: Checkout = HERE) -> list[Layer]:
    """The layers of a build, first the base, last the sealed disk."""
    base = Layer(
        "base",
        "the vendor's cloud image" if inputs.cloud_image else "apt packages on a disk",
        {
            "os": inputs.definition.os,
            "disk_mib": str(inputs.base_disk_mib),
            **(cloud_image(inputs) if inputs.cloud_image else packages(inputs, checkout)),
            **{name: part for room in ROOMS for name, part in code(room, checkout).items()},
            **tree(checkout.root / "packer"),
        },
    )
    python = Layer(
        "python",
        "Python and its packages",
        {
            "parent": base.key,
            "python.distribution": inputs.distribution,
            "python.version": inputs.python,
            **wheels(inputs),
            **own_plugin(checkout),
            **scripts("python", checkout),
            **distribution(inputs, checkout),
            **build_vm_seed(inputs, checkout),
        },
    )
    files = Layer(
        "image-files",
        "image_files on top of it",
        {
            "parent": python.key,
            **flat(asdict(about(inputs, checkout))),
            **scripts("image-files", checkout),
            **tree(checkout.image_files),
        },
    )
    sealed = Layer(
        "sealed",
        "sealed disk",
        {
            "parent": files.key,
            "disk_mib": str(inputs.disk_mib),
            "boot loaders": boot_loaders(inputs),
            **tree(checkout.build_vm_files, "scripts/guest/"),
        },
    )
    return [base, python, files, sealed]


def packages(inputs: Inputs, checkout: Checkout) -> dict[str, str]:
    """A base of apt packages."""
    sources = inputs.packages.sources if inputs.packages else ()
    return {
        "boot loaders": boot_loaders(inputs),
        "apt sources": " | ".join(sources),
        **{f"apt: {p.name}": f"{p.version} {shown(p.sha256)}" for p in inputs.apt_packages},
        **tree(checkout.build_vm_files, "scripts/guest/"),
    }


def boot_loaders(inputs: Inputs) -> str:
    """The signed boot loaders that are copied into the EFI partition."""
    system = inputs.definition.system
    return " ".join((*system.shim, system.grub_efi, system.efi_vendor))


def cloud_image(inputs: Inputs) -> dict[str, str]:
    """A base of a vendor's cloud image."""
    image = inputs.cloud_image
    return {"cloud image": f"{image.file} {shown(image.sha256)}"} if image else {}


def wheels(inputs: Inputs) -> dict[str, str]:
    """The environment's wheels and tools."""
    every = (*inputs.wheels, *inputs.tools)
    return {f"wheel: {one.name}": f"{one.version} {shown(one.sha256)}" for one in every}


def own_plugin(checkout: Checkout) -> dict[str, str]:
    """The plugin for HDFS, whose wheel the environment gets, too."""
    folder = checkout.plugin.relative_to(checkout.root)
    files = plugin.sources(checkout)
    return {f"{folder}/{name}": shown(hash_file(path)) for name, path in files.items()}


def scripts(layer: str, checkout: Checkout) -> dict[str, str]:
    """A layer's steps, and the files that they call."""
    paths = {f"scripts/guest/{path.name}": path for path in steps.scripts_of(layer, checkout)}
    called = steps.called_scripts(layer, checkout)
    paths |= {f"scripts/guest/{name}": path for name, path in called.items()}
    if layer == "python":
        folder = f"image_files/{steps.PREPARE_FOLDER}"
        run = steps.prepare_files(checkout)
        paths |= {f"{folder}/{name}": path for name, path in run.items()}
    if layer == "image-files":
        paths[f"scripts/guest/{checkout.modes_file.name}"] = checkout.modes_file
    return {name: shown(hash_file(path)) for name, path in paths.items()}


def distribution(inputs: Inputs, checkout: Checkout) -> dict[str, str]:
    """A distribution's installer, the script that starts it, and whether its files stay."""
    if not inputs.installer:
        return {}
    script = checkout.guest_scripts / steps.CONDA_SCRIPT
    return {
        "installer": shown(inputs.installer.sha256),
        "python.keep_distribution": json.dumps(inputs.keeps_distribution),
        f"scripts/guest/{script.name}": shown(hash_file(script)),
    }


def build_vm_seed(inputs: Inputs, checkout: Checkout) -> dict[str, str]:
    """The user-data of a build VM on a cloud image."""
    seed = checkout.root / "cloud-init" / "build.yaml.j2"
    return {f"cloud-init/{seed.name}": shown(hash_file(seed))} if inputs.cloud_image else {}


def code(room: str, checkout: Checkout) -> dict[str, str]:
    """Every module of a room of this package."""
    folder = checkout.code / room
    return {
        f"mlflow_image/{room}/{path.relative_to(folder)}": shown(hash_file(path))
        for path in files_of(folder)
        if path.suffix == ".py"
    }


def tree(folder: Path, prefix: str = "") -> dict[str, str]:
    """Every file and link of a folder; owners and modes come from the table."""
    found = {}
    for path in files_of(folder):
        content = f"-> {path.readlink()}" if path.is_symlink() else shown(hash_file(path))
        found[f"{prefix}{folder.name}/{path.relative_to(folder)}"] = content
    return found


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A document as one part for each value: {"python": {"version": 1}} -> {"python.version": "1"}.

    A list counts as one value.
    """
    found: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def shown(sha256: str) -> str:
    """As much of a hash as a key and its messages show."""
    return sha256[:SHOWN_CHARACTERS]
