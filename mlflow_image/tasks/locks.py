"""Task that pins: lock."""

from __future__ import annotations

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.inputs import anaconda, wheels
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.paths import HERE
from mlflow_image.tasks.task import task


@task()
def lock(context: Context) -> None:
    """Resolve all wheels anew and pin them by hash.

    For every Python that an image can have; needs a network.

    What `python.distribution: auto` had decided is forgotten and decided anew.
    """
    anaconda.forget()
    pythons = sorted(
        {*(row.python for row in OPERATING_SYSTEMS.values()), anaconda.read_installer().python}
    )
    for python in pythons:
        with progress.step(f"Locking the image's wheels for Python {python}") as step:
            wheels.lock(HERE.locks / "image.in", python, wheels.lock_file(python), step)
    with progress.step("Locking the tools of the provisioning steps") as step:
        wheels.lock(HERE.locks / "tools.in", pythons[0], HERE.locks / "tools.txt", step)
    with progress.step("Locking the host's own environment"):
        wheels.lock_host(HERE.root / "pyproject.toml", HERE.locks / "host.txt")
    progress.say("look at `git diff locks/`, build, and commit what works")
