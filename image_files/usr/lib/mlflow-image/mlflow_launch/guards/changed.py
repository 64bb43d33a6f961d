"""Tells all workers of a server at once that one of them has changed something."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_TIME = struct.Struct("<q")


class Changed:
    """When something was changed last, in memory that all workers of a server share.

    Every process that loads the guards maps the same file.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _TIME.size)
            self._shared = mmap.mmap(descriptor, _TIME.size)
        finally:
            os.close(descriptor)
        self._seen = self._shared[:]

    def note(self) -> None:
        """Something was changed."""
        self._shared[:] = _TIME.pack(time.time_ns())

    def since_last_look(self) -> bool:
        """Whether something was changed since this process looked last."""
        now = self._shared[:]
        if now == self._seen:
            return False
        self._seen = now
        return True

    def stamp(self) -> bytes:
        """Another value after each change."""
        return self._shared[:]
