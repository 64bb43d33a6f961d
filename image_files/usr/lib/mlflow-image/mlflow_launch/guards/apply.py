"""Applies the guards to MLflow's modules: to imported ones, or while they are being imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mlflow_launch import mlflow_names
from mlflow_launch.guards import (
    accounts,
    artifacts,
    batches,
    doors,
    handlers,
    limits,
    locations,
)
from mlflow_launch.log import warn

#: The MLflow modules that are changed, each with its change and what is missing without it.
GUARDS: Mapping[str, tuple[Callable[[Any], None], str]] = {
    mlflow_names.LOCAL_ARTIFACTS: (
        artifacts.mend,
        "a power cut may destroy artifacts that were just uploaded",
    ),
    mlflow_names.DATABASE: (
        batches.mend,
        "calls that change many rows of PostgreSQL are slower",
    ),
    mlflow_names.REPOSITORIES: (
        locations.mend_registry,
        "clients may make the server open artifact stores other than its own",
    ),
    mlflow_names.HANDLERS: (
        handlers.mend,
        "a foreign artifact location is refused late, and clients may be sent to the store itself",
    ),
    mlflow_names.SERVER_INFO_MODULE: (
        handlers.mend_announcement,
        "clients may be sent to the store itself",
    ),
    mlflow_names.APPLICATION_MODULE: (limits.mend, "server.upload_limit has no effect"),
    mlflow_names.AUTH: (
        accounts.mend,
        "guessing passwords is not slowed down, and a changed one works for a minute more",
    ),
    **dict.fromkeys(
        mlflow_names.SECURITY,
        (doors.mend, "clients are refused that use a private address"),
    ),
}


#: Changed only where something else has imported it.
_OPTIONAL = frozenset({mlflow_names.AUTH})


def to_imported() -> None:
    """Import MLflow's modules and change them; a warning names a change that does not fit."""
    for name in GUARDS:
        if name in _OPTIONAL and name not in sys.modules:
            continue
        try:
            module = importlib.import_module(name)
        except ImportError:
            warn(_differs(name, f"there is no module {name}"))
            continue
        _mend(name, module)


def while_imported() -> None:
    """Change each module as soon as this process imports it."""
    sys.meta_path.insert(0, _Finder())


def _mend(name: str, module: Any) -> None:
    if reason := mlflow_names.guard_differs(name, module):
        warn(_differs(name, reason))
    else:
        GUARDS[name][0](module)


def _differs(name: str, reason: str) -> str:
    return f"this MLflow differs: {reason}; {GUARDS[name][1]}"


class _Finder:
    """A finder that lets the others find a module of GUARDS, and changes it once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in GUARDS:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (
            finder.find_spec(name, path, target)
            for finder in others
            if hasattr(finder, "find_spec")
        )
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _mend(name, module)

            loader.exec_module = exec_module
        return spec
