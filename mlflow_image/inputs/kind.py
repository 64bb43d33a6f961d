"""The interface that every kind of input has: its files, what the store lacks, how to fetch it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from mlflow_image import progress
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step
from mlflow_image.space import CACHE_REMEDY, MIB, Room


@dataclass(frozen=True)
class Item:
    """One file of an input; name: what the user knows it by."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Kind(ABC):
    """One kind of input, such as the wheels. `gather.kinds` lists those of a build."""

    store: Store
    #: How often the files are on the disk at once while they are fetched.
    COPIES: ClassVar[int] = 1

    def room(self, missing: list[Item]) -> Room:
        """The disk space that fetching these files needs."""
        needed_mib = self.COPIES * sum(item.size_bytes for item in missing) // MIB
        return Room(f"fetching {self.title(missing)}", self.store.root, needed_mib, CACHE_REMEDY)

    @abstractmethod
    def items(self) -> list[Item]:
        """Every file of this input."""

    @abstractmethod
    def title(self, missing: list[Item]) -> str:
        """What is fetched, for the progress line: "3 wheels, 12 MB"."""

    @abstractmethod
    def fetch(self, step: Step) -> None:
        """Fetch what the store lacks; raises Failure naming the file and the reason."""

    def missing(self) -> list[Item]:
        """The files that the store lacks; all are hashed again.

        An altered copy is removed with a warning, and counts as missing.
        """
        return [item for item in self.items() if not self._is_intact(item)]

    def _is_intact(self, item: Item) -> bool:
        existed = self.store.has(item.sha256)
        intact = self.store.intact(item.sha256)
        if existed and not intact:
            progress.warn(f"the store's copy of {item.name} was altered and has been removed")
        return intact


def total_size(items: Iterable[Item]) -> str:
    """The size of all items, for people."""
    return progress.human_bytes(sum(item.size_bytes for item in items))
