"""Which layer is stale and why: each is keyed by its parent, inputs, scripts and files."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_image.builder.disk.tarball import files_of
from mlflow_image.files import hash_file
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, cache

RECORD_NAME = "layer.json"
ANACONDA_SCRIPT = HERE.guest_scripts / "anaconda.sh"

#: Files of the image that the Python layer runs while it is made, relative to image_files/.
PREPARE_FOLDER = "usr/lib/mlflow-image"
PREPARE_FILES = (
    "make-empty-database",
    "mlflow_launch/__init__.py",
    "mlflow_launch/bundle.py",
    "mlflow_launch/log.py",
    "mlflow_launch/preload.py",
    "mlflow_launch/prepare.py",
    "mlflow_launch/ready.py",
    "mlflow_launch/rehearsal.py",
)

#: Scripts that the steps of a layer call; they find them on the payload.
CALLED_SCRIPTS = {
    "python": ("environment.sh", "hand-over.sh"),
    "image-files": ("hand-over.sh",),
}

#: Our own code that decides what a layer's bytes are.
TREE_CODE = ("disk/tree.py", "disk/tarball.py", "disk/raw.py", "disk/bootloaders.py")
IMAGE_CODE = ("disk/raw.py",)
BAKE_CODE = ("bake/chroot.py", "bake/payload.py", "bake/on_host.py", "disk/tarball.py")
SEAL_CODE = ("disk/seal.py", "disk/raw.py", "disk/bootloaders.py")


@dataclass(frozen=True)
class Layer:
    """One step from apt to the sealed disk; `parts` is everything that decides its content."""

    name: str
    title: str
    parts: dict[str, str] = field(hash=False)

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    @property
    def directory(self) -> Path:
        return cache() / "layers" / f"{self.name}-{self.key[:16]}"

    @property
    def built(self) -> bool:
        return (self.directory / RECORD_NAME).is_file()

    def record(self, seconds: float, phases: list[tuple[str, float]]) -> dict[str, Any]:
        """What is kept beside the layer: its key's parts and how long it took."""
        return {
            "name": self.name,
            "key": self.key,
            "parts": self.parts,
            "seconds": round(seconds, 1),
            "phases": [[title, round(s, 1)] for title, s in phases],
            "made_at": time.time(),
        }


def of(inputs: Inputs) -> list[Layer]:
    """The layers of a build, first the base, last the sealed disk."""
    definition = inputs.definition
    base = Layer(
        "base",
        "the vendor's cloud image" if inputs.cloud_image else "apt packages on a disk",
        {"os": definition.os, "disk_mib": str(inputs.disk_mib), **base_parts(inputs)},
    )
    python = Layer(
        "python",
        "Python and its packages",
        {
            "parent": base.key,
            "python.distribution": inputs.distribution,
            **({"installer": inputs.installer.sha256[:12]} if inputs.installer else {}),
            **{
                f"wheel: {w.name}": f"{w.version} {w.sha256[:12]}"
                for w in (*inputs.wheels, *inputs.tools)
            },
            **scripts("python"),
            **called_by_step(inputs),
            **code(BAKE_CODE),
        },
    )
    files = Layer(
        "image-files",
        "image_files laid over it",
        {"parent": python.key, **scripts("image-files"), **tree_parts(HERE.image_files)},
    )
    sealed = Layer(
        "sealed",
        "sealed disk",
        {"parent": files.key, "disk_mib": str(inputs.disk_mib), **code(SEAL_CODE)},
    )
    return [base, python, files, sealed]


def base_parts(inputs: Inputs) -> dict[str, str]:
    """Parts of the base's key: all packages and the code that lays them out, or one image."""
    if inputs.cloud_image:
        return {
            "cloud image": f"{inputs.cloud_image.file} {inputs.cloud_image.sha256[:12]}",
            **code(IMAGE_CODE),
        }
    sources = inputs.packages.sources if inputs.packages else ()
    system = inputs.definition.system
    return {
        "boot loaders": " ".join((*system.shim, system.grub_efi, system.efi_vendor)),
        "apt sources": " | ".join(sources),
        **{f"apt: {p.name}": f"{p.version} {p.sha256[:12]}" for p in inputs.apt_packages},
        **{f"scripts/guest/{name}": part for name, part in tree_parts(HERE.build_vm_files).items()},
        **code(TREE_CODE),
    }


def scripts_of(layer: str) -> list[Path]:
    """The provisioning steps of a layer, in order; each names its layer in its second line."""
    return [
        path
        for path in sorted(HERE.guest_scripts.glob("[0-9]*.sh"))
        if f"# layer: {layer}" in path.read_text().splitlines()[:3]
    ]


def scripts(layer: str) -> dict[str, str]:
    """Parts of a layer's key: its steps, and the files that they call."""
    paths = {f"scripts/guest/{path.name}": path for path in scripts_of(layer)}
    paths |= {f"scripts/guest/{name}": path for name, path in called_scripts(layer).items()}
    if layer == "python":
        for name in PREPARE_FILES:
            paths[f"image_files/{PREPARE_FOLDER}/{name}"] = HERE.image_files / PREPARE_FOLDER / name
    if layer == "image-files":
        paths[f"scripts/guest/{HERE.modes_file.name}"] = HERE.modes_file
    return {name: hash_file(path)[:12] for name, path in paths.items()}


def called_scripts(layer: str) -> dict[str, Path]:
    """The scripts that a layer's steps call: name on the payload -> file."""
    return {name: HERE.guest_scripts / name for name in CALLED_SCRIPTS.get(layer, ())}


def called_by_step(inputs: Inputs) -> dict[str, str]:
    """Parts of the Python layer's key: the script that its step calls for this distribution."""
    if not inputs.installer:
        return {}
    return {f"scripts/guest/{ANACONDA_SCRIPT.name}": hash_file(ANACONDA_SCRIPT)[:12]}


def code(names: tuple[str, ...]) -> dict[str, str]:
    """Parts of a layer's key: modules of this package."""
    folder = HERE.root / "mlflow_image" / "builder"
    return {f"mlflow_image/builder/{name}": hash_file(folder / name)[:12] for name in names}


def tree_parts(folder: Path) -> dict[str, str]:
    """Parts of a layer's key: every file and link of a folder; modes come from the table."""
    found = {}
    for path in files_of(folder):
        content = f"-> {path.readlink()}" if path.is_symlink() else hash_file(path)[:12]
        found[f"{folder.name}/{path.relative_to(folder)}"] = content
    return found


def read_record(directory: Path) -> dict[str, Any] | None:
    """What was written beside a finished layer, or None."""
    try:
        loaded: dict[str, Any] = json.loads((directory / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return None
    return loaded


def records(name: str) -> list[dict[str, Any]]:
    """The records of all finished layers of this name, newest first."""
    folders = (cache() / "layers").glob(f"{name}-*")
    found = [record for folder in folders if (record := read_record(folder))]
    return sorted(found, key=lambda record: float(record["made_at"]), reverse=True)


def nearest(layer: Layer) -> dict[str, Any] | None:
    """The record of the most similar finished layer of this name, the newest of several."""
    return min(records(layer.name), key=lambda record: len(differing(layer, record)), default=None)


def differing(layer: Layer, record: dict[str, Any]) -> list[str]:
    """The parts in which a layer is not as a finished one, sorted."""
    old = record["parts"]
    return sorted(
        key for key in old.keys() | layer.parts.keys() if old.get(key) != layer.parts.get(key)
    )


def expected_seconds(layer: Layer) -> float | None:
    """How long the most similar layer took that was made here."""
    known = nearest(layer)
    return float(known["seconds"]) if known else None


def reasons(layer: Layer) -> list[str]:
    """What differs from the most similar finished layer of this name: `part: old -> new`."""
    known = nearest(layer)
    if not known:
        return ["never built here"]
    old = known["parts"]
    return [
        "the layer below it changes"
        if key == "parent"
        else f"{key}: {old.get(key, '(none)')} -> {layer.parts.get(key, '(gone)')}"
        for key in differing(layer, known)
    ]
