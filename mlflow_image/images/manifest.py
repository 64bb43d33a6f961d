"""What an image is: a typed manifest, with a JSON Schema for the file that stores it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema

from mlflow_image import files
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images.provenance import Commit

VERSION = 2
DISK_NAME = "disk.qcow2"
MANIFEST_NAME = "manifest.json"
SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")
ARCHITECTURE = "x86_64"
BUILD_CHARACTERS = 12


@dataclass(frozen=True)
class ImageId:
    """The name of an image's folder: <name>-<os>-<architecture>-<build>.

    build: the first 12 hex digits of the sha256 of the uncompressed disk. Other bytes are
    another image, even when every input is the same.
    """

    name: str
    os: str
    build: str
    architecture: str = ARCHITECTURE

    _FORM = re.compile(
        r"(?P<name>[a-z][a-z0-9-]*)-(?P<os>[a-z]+-[0-9.]+)-(?P<architecture>x86_64)"
        rf"-(?P<build>[0-9a-f]{{{BUILD_CHARACTERS}}})"
    )

    @classmethod
    def of_disk(cls, name: str, os: str, raw_sha256: str) -> ImageId:
        """The id of a disk. raw_sha256: of the bytes before they were compressed."""
        return cls(name, os, raw_sha256[:BUILD_CHARACTERS])

    @classmethod
    def parse(cls, text: str) -> ImageId:
        """The id in a text; raises ValueError when it is not one."""
        found = cls._FORM.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is not an image id (<name>-<os>-x86_64-<12 hex digits>)")
        return cls(**found.groupdict())

    def matches(self, text: str) -> bool:
        """Whether a user means this image: by its whole id, or by how its build begins."""
        return bool(text) and (text == str(self) or self.build.startswith(text))

    def __str__(self) -> str:
        return f"{self.name}-{self.os}-{self.architecture}-{self.build}"


@dataclass(frozen=True)
class Python:
    """The Python of /opt/mlflow. terms: what its vendor asks of its users; may be empty."""

    distribution: str
    version: str
    terms: str


@dataclass(frozen=True)
class Description:
    """What an image contains; /etc/mlflow-image.json in the image holds the same fields."""

    definition: Mapping[str, Any]
    os: str
    #: The user that cloud-init creates in the guest.
    login: str
    kernel: tuple[str, ...]
    python: Python
    mlflow: str
    packages: Mapping[str, str]
    settings_schema_version: int


@dataclass(frozen=True)
class Disk:
    """The disk's file. bytes: its size; virtual_mib: of the disk in it."""

    format: str
    bytes: int
    virtual_mib: int
    raw_sha256: str


@dataclass(frozen=True)
class Verification:
    """The result of the image's contract: `passed`, `failed` or `not run`."""

    result: str = "not run"
    tests: int | None = None
    summary: str | None = None
    seconds: float | None = None
    at: str | None = None

    @property
    def passed(self) -> bool:
        return self.result == "passed"


@dataclass(frozen=True)
class Manifest(Description):
    """Everything that is known of an image; manifest.json in its folder.

    keys: layer -> key. seconds: layer -> {total, phases: [[title, seconds]]}. inputs: kind ->
    {name: sha256}.
    """

    image: ImageId
    built_at: str
    #: Why this Python distribution was chosen on the host that built the image.
    python_reason: str
    git: Commit
    built_with: Mapping[str, str]
    keys: Mapping[str, str]
    seconds: Mapping[str, Mapping[str, Any]]
    disk: Disk
    inputs: Mapping[str, Mapping[str, Any]]
    verification: Verification = field(default_factory=Verification)

    def document(self) -> dict[str, Any]:
        """The manifest as its file stores it."""
        found = asdict(self) | {"image": str(self.image)}
        found["verification"] = without_none(found["verification"])
        return {"manifest_version": VERSION, **json.loads(json.dumps(found))}


@dataclass(frozen=True)
class Candidate:
    """A sealed disk that may become an image. documents: further files for its folder."""

    directory: Path
    manifest: Manifest
    documents: Mapping[str, Path] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        return self.directory / DISK_NAME


def read(directory: Path) -> Manifest | None:
    """The manifest in a folder; None when there is none.

    Raises Refusal, naming file, place and value, when the file is not a valid manifest.
    """
    file = directory / MANIFEST_NAME
    try:
        return parse(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Refusal(
            f"{file} is not a valid manifest: {error}",
            remedy="restore the file, or remove its folder and build the image again",
        ) from error


def write(directory: Path, manifest: Manifest) -> None:
    """Write a manifest into a folder, whole or not at all."""
    document = manifest.document()
    if faults := schema_faults(document):
        raise Failure(f"the manifest of {manifest.image} breaks its schema: {faults[0]}")
    files.write(directory / MANIFEST_NAME, json.dumps(document, indent=1) + "\n")


def parse(document: Any) -> Manifest:
    """A manifest from its document; raises ValueError with the first fault."""
    if isinstance(document, dict) and document.get("manifest_version") == 1:
        document = from_version_1(document)
    if faults := schema_faults(document):
        raise ValueError(faults[0])
    found = {name: value for name, value in document.items() if name != "manifest_version"}
    return Manifest(
        **found
        | {
            "image": ImageId.parse(found["image"]),
            "kernel": tuple(found["kernel"]),
            "python": Python(**found["python"]),
            "git": Commit(**found["git"]),
            "disk": Disk(**found["disk"]),
            "verification": Verification(**found["verification"]),
        }
    )


def from_version_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of the first version, in which some fields came later than others.

    It had no login, which followed from the system, and the reason was a field of python.
    """
    found = {name: value for name, value in document.items() if name != "layer_key"}
    python = dict(found.get("python") or {})
    reason = str(python.pop("reason", ""))
    missing = {
        "login": "debian" if str(found.get("os", "")).startswith("debian") else "ubuntu",
        "python_reason": reason,
        "settings_schema_version": 1,
        **{name: {} for name in ("definition", "packages", "built_with", "keys", "seconds")},
        "inputs": {},
        "verification": {"result": "not run"},
    }
    python = {"terms": "", **python}
    return {**missing, **found, "python": python, "manifest_version": VERSION}


def schema_faults(document: Any) -> list[str]:
    """`path: message` for each place where a document breaks the schema."""
    errors = jsonschema.Draft7Validator(schema()).iter_errors(document)
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'the document'}: {error.message[:200]}"
        for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path)))
    ]


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON Schema (draft 7) of manifest.json."""
    loaded: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    return loaded


def without_none(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
