"""Which command lines are seen on this host while something runs, as any user could look."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.05


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collect the arguments of all processes while the body runs."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY_S):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = file.read_bytes().decode(errors="replace")
                except OSError:  # it has ended
                    continue
                seen.add(line.replace("\0", " "))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
