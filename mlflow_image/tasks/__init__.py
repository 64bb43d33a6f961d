"""The Invoke tasks, one per command: each parses its flags, calls another room, prints."""

from __future__ import annotations

import importlib

from invoke.collection import Collection
from invoke.tasks import Task

#: Modules of this package, in the order in which a new user needs their tasks.
MODULES = (
    "image",
    "settings",
    "clients",
    "vm",
    "smoke",
    "torture",
    "host",
    "locks",
    "tests",
    "bench",
)


def namespace() -> Collection:
    """All tasks without a namespace: `invoke build-image`, not `invoke image.build`."""
    collection = Collection()
    for name in MODULES:
        module = importlib.import_module(f"mlflow_image.tasks.{name}")
        for found in vars(module).values():
            if isinstance(found, Task):
                collection.add_task(found)
    return collection
