"""Invoke tasks: one a verb; they parse, call, print."""

from __future__ import annotations

import importlib

from invoke.collection import Collection
from invoke.tasks import Task

#: Modules of this package, in the order in which a newcomer would need their tasks.
MODULES = ("image", "vm", "smoke", "host", "locks", "tests", "bench")


def namespace() -> Collection:
    """All tasks, flat: `invoke build-image`, not `invoke image.build`."""
    collection = Collection()
    for name in MODULES:
        module = importlib.import_module(f"mlflow_image.tasks.{name}")
        for found in vars(module).values():
            if isinstance(found, Task):
                collection.add_task(found)
    return collection
