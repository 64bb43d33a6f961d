"""Which of MLflow's applications serves: the one for everybody, or the one with users."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mlflow_launch import mlflow_names, own_access
from mlflow_launch.guards import apply
from mlflow_launch.log import say

#: mlflow-configure's variable: the application's name for MLflow; absent: the one for everybody.
NAME = "MLFLOW_IMAGE_APP"


class Application(Protocol):
    """An ASGI application of MLflow.

    kinds: of the lists of modules that are imported early. words: for `mlflow server`. target and
    flags: what MLflow then gives to uvicorn.
    """

    kinds: Sequence[str]
    words: Sequence[str]
    target: str
    flags: Sequence[str]

    def prepare(self) -> None:
        """Set this process up, before MLflow's command runs."""

    def load(self) -> None:
        """Import it, while MLflow's command still checks; what importing raises."""

    def build(self) -> Any:
        """Make it, with the environment that the command decided on."""


class Open:
    """Everybody who reaches the server may do everything."""

    kinds: Sequence[str] = ()
    words: Sequence[str] = ()
    target = mlflow_names.APPLICATION
    flags: Sequence[str] = ()

    def prepare(self) -> None:
        """Forget the users of an earlier start."""
        own_access.revoke()

    def load(self) -> None:
        """Import the application, with the guards."""
        _load(mlflow_names.APPLICATION_MODULE)

    def build(self) -> Any:
        """The application, with the shorter ways of lean.py."""
        module = importlib.import_module(mlflow_names.APPLICATION_MODULE)
        return shortened(getattr(module, mlflow_names.APPLICATION_NAME))


class BasicAuth:
    """Users with passwords and permissions."""

    kinds: Sequence[str] = (mlflow_names.AUTH_APP_NAME,)
    words: Sequence[str] = ("--app-name", mlflow_names.AUTH_APP_NAME)
    target = mlflow_names.AUTH_APPLICATION
    flags: Sequence[str] = (mlflow_names.UVICORN_FACTORY,)

    def prepare(self) -> None:
        """Make the machine's own way in, and a key that MLflow's command asks for."""
        # guards/accounts.py replaces it by one that all servers with the database share.
        os.environ[mlflow_names.AUTH_SECRET_KEY] = secrets.token_urlsafe(32)
        own_access.grant()

    def load(self) -> None:
        """Import the application, with the guards."""
        _load(mlflow_names.AUTH)

    def build(self) -> Any:
        """The application with its first users (guards/accounts.py) and the ways of lean.py.

        The command has migrated the database of users, and made the administrator.
        """
        module: Any = importlib.import_module(mlflow_names.AUTH)
        rehearsal: Any = importlib.import_module("mlflow_launch.rehearsal")
        with rehearsal.closing_connections():
            made = getattr(module, mlflow_names.AUTH_FACTORY)()
        return shortened(made)


def chosen(environment: Mapping[str, str]) -> Application:
    """The application that mlflow-configure has chosen."""
    return BasicAuth() if environment.get(NAME) == mlflow_names.AUTH_APP_NAME else Open()


def import_server() -> Any:
    """Import what the command and the applications have in common."""
    # MLflow turns its host checks on only where it finds uvicorn imported.
    importlib.import_module(mlflow_names.UVICORN)
    return importlib.import_module(mlflow_names.SERVER)


def _load(module: str) -> None:
    """Import an application's module, with the guards."""
    import_server()
    importlib.import_module(module)
    apply.to_imported()


def shortened(application: Any) -> Any:
    """The application with the shorter ways that fit it."""
    lean: Any = importlib.import_module("mlflow_launch.lean")
    lean.shorten(application)
    say("application imported")
    return application
