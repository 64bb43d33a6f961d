"""Imports a recorded list of modules before the settings are there, and records what they read.

Nothing of `mlflow.server` may be imported this early: it reads its settings while being imported.
Other modules may read environment variables too. Recorder notes each read: when a setting differs
from the value that was read, the launcher starts over instead of half ignoring the setting.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow_launch import mlflow_names
from mlflow_launch.log import say

FORBIDDEN = mlflow_names.SERVER


class Recorder:
    """While active, records which environment variables are read, and the first value of each."""

    def __init__(self) -> None:
        self._seen: dict[str, str | None] = {}
        self._kind: Any = type(os.environ)
        self._original: Any = self._kind.__getitem__

    def __enter__(self) -> Recorder:
        seen, original = self._seen, self._original

        def noted(environ: Any, key: str) -> str:
            value: str | None = None
            try:
                value = original(environ, key)
                return value
            finally:
                if isinstance(key, str):
                    seen.setdefault(key, value)

        # get(), getenv() and `in` all end in __getitem__; there is no documented hook.
        self._kind.__getitem__ = noted
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop recording."""
        self._kind.__getitem__ = self._original

    def disagrees(self, environment: Mapping[str, str]) -> list[str]:
        """Names in `environment` that were read before with another value, sorted."""
        return sorted(
            name
            for name, value in environment.items()
            if name in self._seen and self._seen[name] != value
        )


class Guard:
    """A finder that refuses `mlflow.server` while it is installed, and records who needed it."""

    def __init__(self) -> None:
        self.reaching: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Part of the import system: None means that the next finder is asked."""
        if name == FORBIDDEN or name.startswith(FORBIDDEN + "."):
            self.reaching |= {name, *_being_imported()}
            raise ModuleNotFoundError(f"{name} is not imported before the settings", name=name)
        return None


@dataclass(frozen=True)
class Preloaded:
    """The result of importing a list of modules.

    missing: those that could not be imported. reaching: modules that were being imported when
    one of them imported mlflow.server. A module that caught the error may now work without the
    server, so a process with any of them must not serve.
    """

    missing: tuple[str, ...]
    reaching: frozenset[str]


def preload(listed: Path) -> bool:
    """Import every module named in the file (one a line); returns whether the process may serve."""
    try:
        names = listed.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        say(f"{listed} is missing: nothing is imported early")
        return True
    done = preload_names(names)
    missing = f"{len(done.missing)} of {len(names)} listed modules are missing"
    left_out = f", {missing}" if done.missing else ""
    say(f"{listed.stem}: {len(names)} modules imported early{left_out}")
    return not done.reaching


def list_of(kind: str, listed: Path) -> Path:
    """The list of what a kind of store needs more (stores/watch.py), beside the general one."""
    return listed.with_name(f"{listed.stem}-{kind}{listed.suffix}")


def preload_names(names: Sequence[str]) -> Preloaded:
    """Import these modules in this order; one that cannot be imported is skipped."""
    guard = Guard()
    missing = []
    sys.meta_path.insert(0, guard)
    try:
        for name in names:
            # Whatever a module raises here: the server imports it again where it needs it, and
            # reports the error there.
            try:
                importlib.import_module(name)
            except Exception:
                missing.append(name)
    finally:
        sys.meta_path.remove(guard)
    return Preloaded(tuple(missing), frozenset(guard.reaching))


def _being_imported() -> list[str]:
    specs = [(name, getattr(module, "__spec__", None)) for name, module in sys.modules.items()]
    return [name for name, spec in specs if getattr(spec, "_initializing", False)]
