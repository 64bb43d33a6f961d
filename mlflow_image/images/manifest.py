"""What an image is: versions, hashes, git commit, timings; for dist/ and for the image itself."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow_image import command
from mlflow_image.builder import layers
from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.layers import Layer
from mlflow_image.host import accelerator
from mlflow_image.images.find import DISK_NAME, MANIFEST_NAME
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE

MANIFEST_VERSION = 1
#: Beside a sealed disk: the sha256 of its bytes before they were compressed.
RAW_SUM_NAME = "raw.sha256"


@dataclass(frozen=True)
class Candidate:
    """A sealed disk that may become an image: where it is and what is known of it."""

    directory: Path
    manifest: dict[str, Any]

    @property
    def disk(self) -> Path:
        return self.directory / DISK_NAME

    @property
    def verified(self) -> bool:
        return bool(self.manifest["verification"]["result"] == "passed")


def complete(stack: list[Layer], wanted: Inputs, with_packer: Packer) -> Candidate:
    """The manifest of a sealed layer, written beside its disk; an earlier verification stays."""
    sealed = stack[-1]
    records = {layer.name: layers.read_record(layer.directory) or {} for layer in stack}
    earlier = read(sealed.directory)
    found = {
        "manifest_version": MANIFEST_VERSION,
        "image": image_id(sealed, wanted),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **about(sealed, wanted),
        "built_with": built_with(with_packer),
        "keys": {layer.name: layer.key for layer in stack},
        "seconds": {
            name: {"total": record.get("seconds"), "phases": record.get("phases")}
            for name, record in records.items()
        },
        "disk": {
            "format": "qcow2",
            "bytes": (sealed.directory / DISK_NAME).stat().st_size,
            "virtual_mib": wanted.disk_mib,
            "raw_sha256": raw_sha256(sealed),
        },
        "inputs": {
            "apt": {p.label: p.sha256 for p in wanted.apt_packages},
            **({"cloud_image": asdict(wanted.cloud_image)} if wanted.cloud_image else {}),
            "wheels": {w.filename: w.sha256 for w in wanted.wheels},
            "tools": {w.filename: w.sha256 for w in wanted.tools},
            "installers": {i.file: i.sha256 for i in (wanted.installer,) if i},
            "cloud_images": {i.file: i.sha256 for i in (wanted.cloud_image,) if i},
        },
        "verification": earlier.get("verification", {"result": "not run"}),
    }
    candidate = Candidate(sealed.directory, found)
    write(candidate.directory, found)
    return candidate


def about(layer: Layer, wanted: Inputs) -> dict[str, Any]:
    """What the image is, as /etc/mlflow-image.json and the manifest say it alike."""
    versions = {wheel.name: wheel.version for wheel in wanted.wheels}
    return {
        "definition": wanted.definition.as_data(),
        "os": wanted.definition.os,
        "kernel": [p.version for p in wanted.apt_packages if p.name.startswith("linux-image")],
        "python": {
            "distribution": wanted.distribution,
            "version": wanted.python,
            "reason": wanted.decision.reason,
            "terms": wanted.decision.terms,
        },
        "mlflow": versions["mlflow"],
        "packages": versions,
        "settings_schema_version": settings_schema()["properties"]["schema_version"]["const"],
        "git": git(),
        "layer_key": layer.key,
    }


def image_id(sealed: Layer, wanted: Inputs) -> str:
    """Name of the image's folder: <name>-<os>-<arch>-<build id>; the sealed layer must be there.

    The build id begins the sha256 of the uncompressed disk: what was baked again with other
    bytes is another image, though every input is the same.
    """
    definition = wanted.definition
    return f"{definition.name}-{definition.os}-x86_64-{raw_sha256(sealed)[:12]}"


def raw_sha256(sealed: Layer) -> str:
    """The sha256 of the sealed layer's disk before it was compressed."""
    return (sealed.directory / RAW_SUM_NAME).read_text().strip()


def git(apart_from: tuple[str, ...] = ()) -> dict[str, Any]:
    """The commit that the checkout stands on, and whether anything differs from it.

    apart_from: files that may differ, relative to the checkout.
    """
    if not shutil.which("git"):
        return {"commit": None, "clean": False}
    done = command.run(["git", "-C", HERE.root, "rev-parse", "HEAD"], check=False)
    places = [".", *(f":(exclude){name}" for name in apart_from)]
    changes = command.run(
        ["git", "-C", HERE.root, "status", "--porcelain", "--", *places], check=False
    )
    if done.returncode != 0:
        return {"commit": None, "clean": False}
    return {"commit": done.stdout.strip(), "clean": not changes.stdout.strip()}


def built_with(with_packer: Packer) -> dict[str, str]:
    """The versions of the programs that made the image."""

    def first_version(*argv: str) -> str:
        match = re.search(r"\d+(\.\d+)+", command.run(argv, check=False).stdout)
        return match[0] if match else "unknown"

    return {
        "packer": with_packer.version_text,
        "qemu": first_version("qemu-system-x86_64", "--version"),
        "mmdebstrap": first_version("mmdebstrap", "--version"),
        "accelerator": accelerator.choose().name,
    }


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of the server settings that this checkout's images carry."""
    import mlflow_settings

    loaded: dict[str, Any] = json.loads(
        Path(mlflow_settings.__file__).with_name("schema.json").read_text()
    )
    return loaded


def read(directory: Path) -> dict[str, Any]:
    """The manifest in a folder, or {}."""
    try:
        loaded: dict[str, Any] = json.loads((directory / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return loaded


def write(directory: Path, content: dict[str, Any]) -> None:
    """Write a manifest beside its place and rename it into it."""
    beside = directory / f".{MANIFEST_NAME}.new"
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(directory / MANIFEST_NAME)
