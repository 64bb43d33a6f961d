"""The block `auth`: who may use the server; MLflow's own users and permissions.

Sources: MLflow's page "Basic HTTP Auth" and mlflow/server/auth of 3.17.2. Its configuration file is
read with configparser, where % is doubled.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import (
    RUN,
    Block,
    Given,
    Machine,
    RenderedFile,
    below,
    known_keys,
    text_faults,
)
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded

CONFIG_FILE = f"{RUN}/auth.ini"
USERS_FILE = f"{RUN}/auth-users.json"
#: Made by the machine when the settings have no password.
MADE_PASSWORD = "/var/lib/mlflow-image/admin-password"  # noqa: S105 - a path
#: The account by which the machine's own programs sign in (mlflow_launch/own_access.py).
OWN_NAME = "mlflow-image"
#: The secret of that account, which lasts as long as the server.
OWN_ACCESS = Path("/run/mlflow-tracking/own-access")
#: MLflow's own limit (mlflow/utils/validation.py).
LEAST_CHARACTERS = 12
#: Everybody knows it, and MLflow refuses it.
_REFUSED = "password1234"
# For so long a changed or deleted password may work on other workers; without the cache each
# request costs 100 ms or more (PBKDF2).
CACHE_S = 60
_RANDOM_BYTES = 18


def new_password() -> str:
    """A password that nobody can guess."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def password_fault(text: str) -> Reason | None:
    """Why MLflow or its configuration file would not take a password, or None."""
    if reason := sources.one_line_fault(text):
        return reason
    if text != text.strip():
        return Reason("begins or ends with a blank", "leave the blank out")
    if text == _REFUSED:
        return Reason("is the one that older releases of MLflow had", "choose another one")
    if len(text) < LEAST_CHARACTERS:
        return Reason(f"is shorter than {LEAST_CHARACTERS} characters", "choose a longer one")
    return None


@dataclass(frozen=True)
class User:
    """An account. password: the text, or the file to read it from."""

    name: str
    password: str | FromFile = field(repr=False)
    admin: bool = False

    RULES: ClassVar[Mapping[str, Any]] = {"password": password_fault}


@dataclass(frozen=True)
class Basic:
    """Users with passwords.

    users: besides the administrator. is_made: the machine makes the administrator's password.
    """

    admin: User
    is_made: bool = False
    default_permission: str = "READ"
    users: tuple[User, ...] = ()

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Basic:
        """Of checked values."""
        admin = {"name": "admin", "password": FromFile(MADE_PASSWORD), **given.get("admin", {})}
        users = tuple(_user(one) for one in given.get("users", ()))
        chosen = known_keys(cls, given) | {"admin": _user({**admin, "admin": True}), "users": users}
        return cls(**chosen, is_made="password" not in given.get("admin", {}))

    def run_files(self, database: str) -> Iterator[RenderedFile]:
        """MLflow's configuration, and the further users. database: the URI for the accounts."""
        if not isinstance(self.admin.password, str):
            return
        values = {
            "default_permission": self.default_permission,
            "database_uri": database,
            "admin_username": self.admin.name,
            "admin_password": self.admin.password,
            "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
            "auth_cache_ttl_seconds": str(CACHE_S),
        }
        lines = [f"{key} = {value.replace('%', '%%')}\n" for key, value in values.items()]
        yield RenderedFile(CONFIG_FILE, "[mlflow]\n" + "".join(lines), 0o600, owner="mlflow")
        users = [
            {"name": one.name, "password": one.password, "admin": one.admin} for one in self.users
        ]
        yield RenderedFile(USERS_FILE, json.dumps(users) + "\n", 0o600, owner="mlflow")


@dataclass(frozen=True)
class Auth(Block):
    """Who may use the server: everybody, or the users of MLflow's own accounts."""

    basic: Basic | None = None

    OWNED: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "MLFLOW_AUTH_ADMIN_PASSWORD",
            "MLFLOW_AUTH_ADMIN_USERNAME",
            "MLFLOW_AUTH_CONFIG_PATH",
            "MLFLOW_FLASK_SERVER_SECRET_KEY",
            "MLFLOW_IMAGE_APP",
        ),
        "auth",
    )

    @staticmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The rules for names and passwords."""
        basic = given.get("basic")
        if not isinstance(basic, dict):
            return
        admin = basic.get("admin")
        accounts: list[tuple[tuple[str | int, ...], object]] = [(("basic", "admin"), admin)]
        users = basic.get("users")
        for position, one in enumerate(users if isinstance(users, list) else ()):
            accounts.append((("basic", "users", position), one))
        names = {"admin"} if not isinstance(admin, dict) or "name" not in admin else set()
        for path, account in accounts:
            if not isinstance(account, dict):
                continue
            yield from below(path, _account_faults(account))
            if not isinstance(name := account.get("name"), str):
                continue
            if name in names:
                yield Worded((*path, "name"), "is the name of another user, too", "", "change one")
            names.add(name)

    def environment(self, machine: Machine) -> Mapping[str, str]:
        """Which application serves, and its configuration."""
        if self.basic is None:
            return {}
        return {"MLFLOW_IMAGE_APP": "basic-auth", "MLFLOW_AUTH_CONFIG_PATH": CONFIG_FILE}

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Auth:
        """Of checked values."""
        return cls(Basic.from_given(given["basic"]) if "basic" in given else None)


def _name_fault(text: str) -> Reason | None:
    if ":" in text or text != text.strip() or not text.isprintable():
        return Reason("has a colon, a blank at an end or an invisible character", "leave it out")
    if text == OWN_NAME:
        return Reason("is the name of the machine's own account", "choose another one")
    return None


def _account_faults(account: Given) -> Iterator[Worded]:
    yield from text_faults(account, "name", _name_fault)
    yield from sources.faults(account, {"password": password_fault})


def _user(given: Mapping[str, Any]) -> User:
    return User(**known_keys(User, sources.values(given)))
