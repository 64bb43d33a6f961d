"""The user-data of a VM: a user's own, byte for byte, or made of a settings file; checked first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.images.find import Image
from mlflow_image.paths import HERE
from mlflow_settings import settings, userdata
from mlflow_settings.document import Fault, Faults

DEFAULT = HERE.root / "cloud-init" / "sqlite.yaml"
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class UserData:
    """What the guest gets, the port that its server will listen on, and what to warn of."""

    raw: bytes
    guest_port: int = DEFAULT_PORT
    warnings: tuple[str, ...] = ()


def from_user_data(file: Path, image: Image) -> UserData:
    """User-data as the user wrote it; the settings inside are checked by the image's schema.

    Raises Refusals with every fault, and Refusal when the file cannot be read.
    """
    raw = _read(file)
    try:
        found = userdata.read(raw, file.name)
        if found.unchecked:
            return UserData(raw, warnings=(f"{file} was not checked: {found.unchecked}",))
        if found.settings is None:
            silent = (
                f"{file} writes no {userdata.SETTINGS_PATH}: "
                "the server will answer inside the VM only"
            )
            return UserData(raw, warnings=(silent,))
        checked = _check_inside(found, file.name, _schema(image))
    except Faults as refused:
        raise _refusals(file, refused.faults) from refused
    return UserData(raw, checked.server.port)


def from_settings(file: Path, image: Image) -> UserData:
    """User-data made of a settings file, which reaches the guest byte for byte; errors as above."""
    raw = _read(file)
    try:
        text = raw.decode()
        checked = settings.check(text, file.name, _schema(image))
    except UnicodeDecodeError as error:
        raise Refusal(f"{file} is not UTF-8 text: {error.reason}") from error
    except Faults as refused:
        raise _refusals(file, refused.faults) from refused
    return UserData(userdata.wrap(text), checked.server.port)


def _check_inside(
    found: userdata.UserData, name: str, schema: Mapping[str, Any] | None
) -> settings.Settings:
    """Check the settings inside user-data, with faults on the lines of the user-data.

    Raises Faults with these and those of how they are written.
    """
    offset = found.line_offset
    inside = name if offset is not None else f"{userdata.SETTINGS_PATH} in {name}"
    faults = list(found.faults)
    try:
        checked = settings.check(found.settings or "", inside, schema)
    except Faults as refused:
        faults += [replace(fault, line=fault.line + (offset or 0)) for fault in refused.faults]
    if faults:
        raise Faults(faults)
    return checked


def _schema(image: Image) -> Mapping[str, Any] | None:
    if image.schema is None:
        return None
    loaded: Mapping[str, Any] = json.loads(image.schema.read_text())
    return loaded


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refusal(
            f"{file} cannot be read: {error.strerror}", remedy="name a file that you can read"
        ) from error


def _refusals(file: Path, faults: list[Fault]) -> Refusals:
    return Refusals(f"{file} was refused; nothing was started", [str(fault) for fault in faults])
