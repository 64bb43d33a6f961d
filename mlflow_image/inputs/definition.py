"""The image definition (image.yaml): typed, with all faults of the file reported at once."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.inputs import cloud_image
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS, OperatingSystem
from mlflow_image.paths import HERE, Checkout
from mlflow_settings.document import Document, Fault, Faults, load

SCHEMA_FILE = Path(__file__).with_name("definition.schema.json")

#: The least disk, and its size for `auto`, by Python distribution. Files: Anaconda 7.6 GB,
#: Miniforge 0.6 GB.
DISK_MIB = {"system": 4096, "anaconda": 12288, "miniforge": 5120}
#: The same for an image that keeps only the environment made from a distribution.
ENVIRONMENT_DISK_MIB = 5120


@dataclass(frozen=True)
class Definition:
    """The content of image.yaml; the defaults are those of the file."""

    name: str = "mlflow"
    os: str = "ubuntu-22.04"
    base: str = "packages"
    disk_mib: int | str = "auto"
    python: str = "auto"
    packages: str = "full"
    apt_packages: tuple[str, ...] = ()
    keep_distribution: bool = True

    @property
    def system(self) -> OperatingSystem:
        return OPERATING_SYSTEMS[self.os]

    def disk_size_mib(self, distribution: str) -> int:
        """The disk's size for a Python distribution, a key of DISK_MIB."""
        if isinstance(self.disk_mib, int):
            return self.disk_mib
        return least_disk_mib(distribution, self.keep_distribution)

    def as_data(self) -> dict[str, Any]:
        """The definition in the form of image.yaml."""
        return {
            "name": self.name,
            "os": self.os,
            "base": self.base,
            "disk_mib": self.disk_mib,
            "python": {
                "distribution": self.python,
                "keep_distribution": self.keep_distribution,
            },
            "packages": self.packages,
            "apt_packages": list(self.apt_packages),
        }


def read(
    file: Path | None = None,
    *,
    os: str = "",
    python: str = "",
    packages: str = "",
    checkout: Checkout = HERE,
) -> Definition:
    """The definition in `file` (default: the checkout's image.yaml), with overrides applied.

    os, python, packages: values of the command line, which override the file's.
    Raises Refusals with one line per fault: file, line, path, value, remedy.
    """
    file = file or checkout.root / "image.yaml"
    overrides, unknown = check_overrides(os=os, python=python, packages=packages)
    text = read_text(file)
    try:
        document = load(text, file.name)
        if document.data is None:  # only comments: the defaults
            document = replace(document, data={})
        faults = document.check(schema(), is_valid=True)  # a test checks it
        data = merged(document.data, overrides) if isinstance(document.data, dict) else {}
        wrong = {fault.path[0] for fault in faults if fault.path}
        valid = {key: value for key, value in data.items() if key not in wrong}
        faults += contradictions(document, valid, checkout)
    except Faults as unreadable:
        faults = unreadable.faults
    if faults:
        found = [*unknown, *(str(fault) for fault in Faults(faults).faults)]
        raise Refusals(f"{file} is not a valid image definition:", found)
    if unknown:
        raise Refusals("unknown values on the command line:", unknown)
    python_block = data.pop("python", {})
    return Definition(
        **{**data, "apt_packages": tuple(data.get("apt_packages", ()))},
        python=python_block.get("distribution", Definition.python),
        keep_distribution=python_block.get("keep_distribution", Definition.keep_distribution),
    )


def merged(data: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The file's data with the overrides; the file's other keys of a block stay."""
    found = {**data, **overrides}
    for key, block in data.items():
        value = overrides.get(key)
        if isinstance(block, dict) and isinstance(value, dict):
            found[key] = {**block, **value}
    return found


def read_text(file: Path) -> str:
    """The text of a definition; raises Refusal when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refusal(
            f"the image definition {file} cannot be read: {why}",
            remedy="pass an existing file to --definition, or omit it to use image.yaml",
        ) from error


def check_overrides(*, os: str, python: str, packages: str) -> tuple[dict[str, Any], list[str]]:
    """The command line's overrides in the form of image.yaml, and one line per unknown value."""
    known = schema()["properties"]
    distributions = known["python"]["properties"]["distribution"]["enum"]
    faults = [
        f"{flag} {value}: unknown; one of {', '.join(choices)}"
        for flag, value, choices in (
            ("--os", os, known["os"]["enum"]),
            ("--python", python, distributions),
            ("--packages", packages, known["packages"]["enum"]),
        )
        if value and value not in choices
    ]
    if faults:
        return {}, faults
    found = {"os": os, "packages": packages, "python": {"distribution": python} if python else ""}
    return {key: value for key, value in found.items() if value}, []


def contradictions(document: Document, data: dict[str, Any], checkout: Checkout) -> list[Fault]:
    """Faults of keys that are valid by themselves but do not work together."""
    faults = []
    os = data.get("os", Definition.os)
    if data.get("base") == "cloud-image":
        if cloud_image.pinned(os, checkout) is None:
            faults.append(
                document.fault(
                    ("base",), f"{os} has no pinned cloud image", remedy="set base: packages"
                )
            )
        if data.get("apt_packages"):
            faults.append(
                document.fault(
                    ("apt_packages",),
                    "no packages can be added to a cloud image",
                    remedy="set base: packages, or leave apt_packages empty",
                )
            )
    python_block = data.get("python", {})
    distribution = python_block.get("distribution", Definition.python)
    disk_mib = data.get("disk_mib", Definition.disk_mib)
    keep = python_block.get("keep_distribution", Definition.keep_distribution)
    if isinstance(disk_mib, int) and (fault := small_disk(disk_mib, distribution, keep)):
        faults.append(document.fault(("disk_mib",), fault.what, remedy=fault.remedy))
    return faults


def least_disk_mib(distribution: str, keep: bool) -> int:
    """The least disk of an image in MiB. keep: python.keep_distribution."""
    if keep or distribution == "system":
        return DISK_MIB[distribution]
    return ENVIRONMENT_DISK_MIB


def small_disk(disk_mib: int, distribution: str, keep: bool) -> Refusal | None:
    """Why a disk of this size cannot hold the distribution; None when it can.

    distribution: `auto` is not decided here, and the system's Python fits on every disk.
    """
    if distribution in ("auto", "system"):
        return None
    least = least_disk_mib(distribution, keep)
    if disk_mib >= least:
        return None
    choices = [f"set auto or at least {least}", "set python.distribution: system"]
    if disk_mib >= least_disk_mib(distribution, keep=False):
        choices.insert(1, "set python.keep_distribution: false")
    return Refusal(
        f"{disk_mib} MiB is too small for {distribution.capitalize()}",
        remedy=", or ".join(choices),
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 7) of image.yaml."""
    loaded: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    return loaded
