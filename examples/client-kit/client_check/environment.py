"""What this machine's clients set: from the environment, or else from .env in the kit."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from client_check.report import Fault, Unknown

URI = "MLFLOW_TRACKING_URI"
#: What a kit without secrets has in place of what is not known.
PLACEHOLDERS = ("SERVER_ADDRESS", "YOUR_NAME", "YOUR_PASSWORD", "YOUR_OWN_KEY")
#: Variables whose value is a file or a folder; in .env they are relative to it.
PATHS = (
    *("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"),
    *("HADOOP_CONF_DIR", "KRB5_CONFIG"),
)
#: Of S3; clients may have them in a file of AWS's.
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN")


@dataclass(frozen=True)
class Kit:
    """The kit's folder, what it says of the server, and where the variables are from."""

    folder: Path
    said: Mapping[str, Any]
    source: str
    written: Mapping[str, str] = field(repr=False)

    @property
    def artifacts(self) -> Mapping[str, Any]:
        """How clients reach the artifacts, as far as the kit's maker knew."""
        found: Mapping[str, Any] = self.said.get("artifacts", {})
        return found

    @property
    def url(self) -> str:
        return os.environ.get(URI, "").strip().rstrip("/")


def read(folder: Path) -> Kit:
    """Set what .env has, if the environment names no server; raises nothing for bad files."""
    try:
        said = json.loads((folder / "kit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {}
    written = _dotenv(folder / ".env")
    if os.environ.get(URI):
        return Kit(folder, said, "the environment", written)
    for name, value in written.items():
        if name in PATHS and value:
            value = str(folder / value)
        os.environ.setdefault(name, value)
    return Kit(folder, said, ".env", written)


def _dotenv(file: Path) -> dict[str, str]:
    """The variables of a .env file as client-env writes it: one a line, without quotes."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.strip().partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs if not name.startswith("#")}


def check(kit: Kit) -> str:
    """The first line of the report: is everything set, and does each value make sense?"""
    if not kit.url:
        raise Fault(
            f"{URI} is set neither in the environment nor in {kit.folder / '.env'}",
            "unpack the whole kit, and run check.py in its folder",
        )
    place = ".env" if kit.source == ".env" else ".env, then run `. ./env.sh` again"
    for name, value in kit.written.items():
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            raise Fault(f"{name} in .env is in quotes, which become part of it", "remove them")
    required = kit.said.get("variables", [URI])
    for name in dict.fromkeys((*required, *KEYS, *kit.written)):
        value = os.environ.get(name, "")
        if placeholder := _placeholder(name):
            raise Fault(f"{name} is still {value}", f"replace {placeholder} in {place}")
        signs_in = name.endswith(("USERNAME", "PASSWORD")) and account()
        if name in required and not value and not signs_in:
            raise Fault(f"{name} is not set in {kit.source}", f"set it in {place}")
    if fault := url_fault(kit.url, place):
        raise fault
    for name in PATHS:
        value = os.environ.get(name, "")
        if value and not Path(value).exists():
            raise Fault(
                f"{name} names {value}, which does not exist",
                f"copy the kit's file there, or correct {name} in {place}",
            )
    _check_privacy(kit)
    return f"{kit.url}, from {kit.source}"


def url_fault(url: str, place: str = ".env") -> Fault | None:
    """What is wrong with the server's address, before anything is asked."""
    shown = re.sub(r"[^/\s]*@", "...@", url)  # without a password
    what, remedy = f"{URI} is {shown}", f"correct it in {place}: https://NAME or http://NAME:PORT"
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or re.search(r"\s", url):
        return Fault(f"{what}, which is not a server's URL", remedy)
    if parts.fragment or parts.query:
        return Fault(f"{what}, the address of a page", f"{remedy}, without what follows")
    if parts.username or parts.password:
        return Fault(
            f"{URI} contains a name or a password, which programs then show",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        )
    return None


def _check_privacy(kit: Kit) -> None:
    file = kit.folder / ".env"
    secret = [kit.written[name] for name in _SECRETS if kit.written.get(name)]
    if os.name != "posix" or not any(value not in PLACEHOLDERS for value in secret):
        return
    if file.stat().st_mode & 0o077:
        raise Fault(f"{file} holds a secret, and others may read it", f"chmod 600 {file}")


def account() -> tuple[str, str] | None:
    """The name and the password that MLflow's client sends: from the environment or its file."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read(Path.home() / ".mlflow" / "credentials", encoding="utf-8")
    except (configparser.Error, OSError, RuntimeError, ValueError):
        file.clear()
    if file.has_section("mlflow"):
        name = name or file["mlflow"].get("mlflow_tracking_username", "")
        password = password or file["mlflow"].get("mlflow_tracking_password", "")
    return (name, password) if name and password else None


def require_replaced(*names: str) -> None:
    """Raise Unknown while one of these variables still has a placeholder."""
    for name in names:
        if _placeholder(name):
            raise Unknown(f"{name} is not known yet")


def _placeholder(name: str) -> str:
    """What a variable still has to have replaced, or ""."""
    value = os.environ.get(name, "")
    inside = (one for one in PLACEHOLDERS if one == value or (name == URI and one in value))
    return next(inside, "")


def is_true(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in ("true", "1")
