"""The skeleton of a block of settings; the class of every block derives from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeAlias, TypeVar

from mlflow_settings.wording import Path, Reason, Worded, shown

#: A block as it was written: known and unknown keys, values of any type.
Given: TypeAlias = Mapping[str, object]

_B = TypeVar("_B", bound="Block")


#: mlflow-configure's folder, gone with each boot. Only root and the service can read it.
RUN = "/run/mlflow"


@dataclass(frozen=True)
class Machine:
    """What settings depend on. addresses: its own IP addresses, most useful first."""

    addresses: tuple[str, ...] = ()
    processors: int = 2
    memory_mib: int = 2048


@dataclass(frozen=True)
class RenderedFile:
    """One file to write: its path, content, mode and owners.

    live: the server reads it again whenever it needs it, so that a change takes no restart.
    """

    path: str
    content: str | bytes = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "mlflow"
    live: bool = False


@dataclass(frozen=True)
class Block(ABC):
    """One block of the settings document, after all checks.

    A block is a frozen dataclass: one field for each key of its part of schema.json, with the
    same default. A field that may hold a secret has repr=False.

    OWNED: the environment variables that only this block may set, each with the setting to
    use instead of extra_environment.
    """

    OWNED: ClassVar[Mapping[str, str]]

    @staticmethod
    @abstractmethod
    def faults(given: Given) -> Iterator[Worded]:
        """The broken rules of this block that a JSON Schema cannot express.

        Paths start inside the block. Values of a wrong type are skipped: the schema names them.
        """

    @abstractmethod
    def environment(self, machine: Machine) -> Mapping[str, str]:
        """The environment variables that this block gives to MLflow's server; never a secret."""

    def run_files(self) -> Sequence[RenderedFile]:
        """The files in RUN that the variables name; secrets are only here."""
        return ()

    @classmethod
    def from_given(cls: type[_B], given: Mapping[str, Any]) -> _B:
        """The block of checked values. Ignores unknown keys: a newer image's schema has more."""
        return cls(**known_keys(cls, given))


def known_keys(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a dataclass has a field for."""
    known = {entry.name for entry in fields(kind)}
    return {key: value for key, value in values.items() if key in known}


def below(where: str | Path, found: Iterable[Worded]) -> Iterator[Worded]:
    """Faults whose paths start inside a key, or at a path, as faults of the block around it."""
    path = (where,) if isinstance(where, str) else where
    for worded in found:
        yield replace(worded, path=(*path, *worded.path))


def text_faults(given: Given, key: str, rule: Callable[[str], Reason | None]) -> Iterator[Worded]:
    """Apply a rule to the text at `key`, or to each text in the list at `key`."""
    found = given.get(key)
    texts: list[tuple[Path, object]] = [((key,), found)]
    if isinstance(found, list):
        texts = [((key, position), value) for position, value in enumerate(found)]
    for path, value in texts:
        if isinstance(value, str) and (reason := rule(value)):
            yield Worded(path, reason.message, shown(value), reason.remedy)


def only_one_of(given: Given, keys: Sequence[str]) -> Iterator[Worded]:
    """A fault for each of the keys after the first one that is given."""
    found = [key for key in given if key in keys and given[key] is not None]
    for key in found[1:]:
        yield Worded((key,), f"is given besides {found[0]}", "", "keep one of them")
