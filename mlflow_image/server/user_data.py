"""The user-data of a VM: from a user-data file, byte for byte, or from a settings file; checked."""

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
DEFAULT_PORT = settings.Settings().server.port


@dataclass(frozen=True)
class UserData:
    """What the guest gets, the port on which its server will listen, and warnings for the user."""

    raw: bytes
    guest_port: int = DEFAULT_PORT
    warnings: tuple[str, ...] = ()


def from_user_data(file: Path, image: Image) -> UserData:
    """User-data, unchanged; the settings in it are checked with the image's schema.

    Raises Refusals with every error, and Refusal when the file cannot be read.
    """
    raw = _read(file)
    try:
        found = userdata.read(raw, file.name)
        if found.unchecked:
            return UserData(raw, warnings=(f"{file} was not checked: {found.unchecked}",))
        if found.settings is None:
            warning = (
                f"{file} does not write {userdata.SETTINGS_PATH}: "
                "the server will only be reachable from inside the VM"
            )
            return UserData(raw, warnings=(warning,))
        checked = _check_inside(found, file.name, _schema(image))
    except Faults as refused:
        raise _refusals(file, refused.faults) from refused
    return UserData(raw, checked.server.port)


def from_settings(file: Path, image: Image) -> UserData:
    """User-data that contains a settings file byte for byte; same errors as `from_user_data`."""
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
    """Check the settings inside user-data; the line numbers of faults are the user-data's.

    Raises Faults, also with the faults in how the user-data writes the settings.
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
            f"{file} cannot be read: {error.strerror}", remedy="check its path and permissions"
        ) from error


def _refusals(file: Path, faults: list[Fault]) -> Refusals:
    return Refusals(f"{file} has errors; no VM was started", [str(fault) for fault in faults])
