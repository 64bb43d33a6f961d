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
from mlflow_image.server import cloud_init, verdict
from mlflow_settings import settings, userdata
from mlflow_settings.document import Fault, Faults

DEFAULT = HERE.root / "cloud-init" / "sqlite.yaml"
DEFAULT_PORT = settings.Settings().server.port


# How cloud-config, a template of it, a MIME archive and a gzip file begin.
_USER_DATA = (b"#cloud-config", b"## template:", b"Content-Type: multipart/", b"\x1f\x8b")


@dataclass(frozen=True)
class UserData:
    """What the guest gets, the port on which its server will listen, and warnings for the user.

    settings: the text that must arrive as /etc/mlflow/settings.yaml; None when it is not known.
    """

    raw: bytes
    guest_port: int = DEFAULT_PORT
    scheme: str = "http"
    warnings: tuple[str, ...] = ()
    settings: str | None = None


def from_user_data(file: Path, image: Image, hostname: str = "mlflow") -> UserData:
    """User-data, unchanged; what the image's cloud-init makes of it is checked, with its schema.

    hostname: of the VM, which templates may use. Raises Refusals with every error, and Refusal
    when the file cannot be read.
    """
    raw = _read(file)
    archive = cloud_init.archive_of(image)
    if archive is None:
        reason = "there is no image with its cloud-init in dist/"
        return UserData(raw, warnings=(f"{file} was not checked: {reason}",))
    found = verdict.judge(raw, cloud_init.read(raw, archive, hostname), file.name)
    warnings = [f"{file.name}: {warning}" for warning in found.warnings]
    if found.unchecked and not found.faults:
        warnings.append(f"the settings in {file} were not checked: {found.unchecked}")
        return UserData(raw, warnings=tuple(warnings))
    if found.text is None and not found.faults:
        warnings.append(
            f"{file} does not write {userdata.SETTINGS_PATH}: "
            "the server will only be reachable from inside the VM"
        )
        return UserData(raw, warnings=tuple(warnings))
    try:
        checked = _check_inside(found, _schema(image))
    except Faults as refused:
        raise _refusals(file, refused.faults) from refused
    certain = found.text if found.certain else None
    return UserData(raw, checked.port, checked.scheme, tuple(warnings), certain)


def from_settings(file: Path, image: Image | None) -> UserData:
    """User-data that contains a settings file byte for byte; same errors as `from_user_data`.

    image: whose schema decides; None: this checkout's.
    """
    text, found = _checked_text(file, image)
    return UserData(userdata.wrap(text), found.port, found.scheme, settings=text)


def checked(file: Path, image: Image | None) -> settings.Settings:
    """The settings in a file; same errors as `from_user_data`."""
    return _checked_text(file, image)[1]


def _checked_text(file: Path, image: Image | None) -> tuple[str, settings.Settings]:
    raw = _read(file)
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_USER_DATA):
        remedy = "give the settings file itself; user-data is for `invoke up --user-data`"
        raise Refusal(f"{file} is user-data already", remedy=remedy)
    try:
        text = raw.decode()
        return text, settings.check(text, file.name, _schema(image))
    except UnicodeDecodeError as error:
        raise Refusal(f"{file} is not UTF-8 text: {error.reason}") from error
    except Faults as refused:
        found = _refusals(file, refused.faults)
        if image is not None and _is_valid_here(text):
            found.add_remedy(f"the image {image.id} is older than these keys: `invoke build-image`")
        raise found from refused


def _is_valid_here(text: str) -> bool:
    """Whether this checkout's own schema accepts settings."""
    try:
        settings.check(text, "")
    except Faults:
        return False
    return True


def _check_inside(found: verdict.Found, schema: Mapping[str, Any] | None) -> settings.Settings:
    """Check the settings inside user-data; the line numbers of faults are the user-data's.

    Raises Faults, also with the faults that keep the settings from arriving.
    """
    faults, checked = list(found.faults), settings.Settings()
    try:
        if found.text is not None:
            checked = settings.check(found.text, found.name, schema)
    except Faults as refused:
        faults += [replace(fault, line=fault.line + found.offset) for fault in refused.faults]
    if faults:
        raise Faults(faults)
    return checked


def _schema(image: Image | None) -> Mapping[str, Any] | None:
    if image is None or image.schema is None:
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
    return Refusals(f"{file} has errors; nothing was done", [str(fault) for fault in faults])
