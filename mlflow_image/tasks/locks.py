"""The task that pins the Python packages: lock."""

from __future__ import annotations

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.inputs import anaconda, wheels
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.paths import HERE
from mlflow_image.tasks.task import task


@task()
def lock(context: Context) -> None:
    """Resolve the Python packages again and pin them by hash.

    This is done for every Python version that an image can have, and needs a network.

    The recorded decision for `python.distribution: auto` is removed; the next build decides again.
    """
    anaconda.forget()
    of_systems = {row.python for row in OPERATING_SYSTEMS.values()}
    pythons = sorted(of_systems | {row.python for row in anaconda.read_installers().values()})
    for python in pythons:
        with progress.step(f"Locking the image's wheels for Python {python}") as step:
            wheels.lock(HERE.locks / "image.in", python, wheels.lock_file(python), step)
    with progress.step("Locking the programs of the provisioning steps") as step:
        wheels.lock(HERE.locks / "tools.in", pythons[0], wheels.tools_lock_file(), step)
    with progress.step("Locking the host's environment"):
        project, target = HERE.root / "pyproject.toml", HERE.locks / "host.txt"
        wheels.lock_host(project, target, "the packages of .venv", extra="dev")
    with progress.step("Locking what drives the browser of the tests"):
        source, target = HERE.locks / "browser.in", HERE.locks / "browser.txt"
        wheels.lock_host(source, target, "the packages of tests/peers/browser.py")
    for source in sorted((HERE.root / "examples").glob("*/requirements*.txt")):
        # requirements.txt and requirements-PART.txt of an example.
        name = source.parent.name + source.stem.removeprefix("requirements")
        target = HERE.locks / "examples" / f"{name}.txt"
        target.parent.mkdir(exist_ok=True)
        with progress.step(f"Locking what the tests of examples/{source.parent.name} install"):
            wheels.lock_host(source, target, f"the packages of examples/{source.parent.name}")
    progress.say("review `git diff locks/`, build an image, and commit the lock files if it works")
