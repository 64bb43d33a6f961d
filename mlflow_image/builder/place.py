"""Where a layer is made: scratch space that never outlives its process, and a folder of logs."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import files
from mlflow_image.host import processes, rootless
from mlflow_image.paths import HERE, Checkout, cache
from mlflow_image.progress import Step
from mlflow_image.vm.paused import HOST_ERRORS

#: In a scratch folder that outlives its process on purpose.
KEPT_NAME = "kept"


@dataclass(frozen=True)
class Place:
    """work: scratch space. result: becomes the layer. step: shows the progress."""

    work: Path
    result: Path
    logs: Path
    step: Step


@contextlib.contextmanager
def workplace(
    layer: str, step: Step, checkout: Checkout = HERE, *, keep_on_error: bool = False
) -> Iterator[Place]:
    """Folders for one layer; the scratch space is removed at the end, the logs stay.

    keep_on_error: keep the scratch space after an error, for the VM that still runs in it; not
    when this host could not write its disk.
    """
    work = scratch() / f"{layer}-{secrets.token_hex(8)}"
    processes.make_owned_folder(work)
    place = Place(work, work / "result", logs_folder(layer, checkout), step)
    place.result.mkdir()
    place.logs.mkdir(parents=True)
    try:
        yield place
    except BaseException as error:
        if keep_on_error and isinstance(error, Exception) and not isinstance(error, HOST_ERRORS):
            files.write(work / KEPT_NAME, "by --on-error=abort\n")
        else:
            rootless.remove(work)
        raise
    rootless.remove(work)


def scratch() -> Path:
    """The folder of all scratch folders."""
    return cache() / "work"


def logs_folder(of: str, checkout: Checkout = HERE) -> Path:
    """A new name for the logs of one step of this build."""
    return checkout.state / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{of}-{os.getpid()}"
