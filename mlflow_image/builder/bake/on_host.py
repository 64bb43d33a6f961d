"""/opt/mlflow, made on this host by the guest's own Python and the guest's own step, as a tar.

Natively in a chroot where the guest is emulated: a minute instead of six, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlflow_image import command, progress
from mlflow_image.builder.bake import chroot
from mlflow_image.builder.disk.tree import SOURCE_DATE_EPOCH
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE
from mlflow_image.progress import Step

ENVIRONMENT_SCRIPT = HERE.guest_scripts / "environment.sh"
#: The environment's folder, relative to the root.
PREFIX = Path("opt/mlflow")


def environment(inputs: Inputs, files: Mapping[str, Path], work: Path, step: Step) -> Path | None:
    """`work/opt-mlflow.tar`, relative to /; None when the guest is to make it.

    files: what the guest would find on its disc: name -> file. Whatever keeps the guest's Python
    from running here, or from coming to its end, is said in one line: the guest has the last word.
    """
    step.phase("unpacking the guest's packages on this host")
    root = work / "guest-root"
    try:
        chroot.unpack_packages(inputs, root)
        chroot.put_payload(files, root)
        run_script(inputs.distribution, root, step)
        step.phase("gathering what was made on this host")
        return write_tar(root, work / "opt-mlflow.tar")
    except (Failure, OSError) as error:
        progress.say(f"/opt/mlflow is made in the guest: {reason_of(error)}")
        return None
    finally:
        rootless.remove(root)


def reason_of(error: Failure | OSError) -> str:
    """What went wrong, in one line."""
    if not isinstance(error, Failure):
        return str(error)
    said = command.last_lines(error.evidence, 1).strip()
    return f"{error.what}: {said}" if said else error.what


def run_script(distribution: str, root: Path, step: Step) -> None:
    """The guest's own step; raises Failure with its last lines when it fails."""

    def on_line(line: str) -> None:
        if line.startswith(":: "):
            step.phase(f"{line.removeprefix(':: ')}, on this host")

    variables = {"PAYLOAD": chroot.PAYLOAD, "PYTHON_DISTRIBUTION": distribution}
    script = f"{chroot.PAYLOAD}/{ENVIRONMENT_SCRIPT.name}"
    try:
        chroot.stream(root, ["/bin/bash", script], on_line, variables)
    except Failure as failure:
        raise Failure(
            f"{ENVIRONMENT_SCRIPT.name} failed on this host", evidence=failure.evidence
        ) from failure


def write_tar(root: Path, target: Path) -> Path:
    """The environment below the root, with nothing of this host's owners, modes and times."""
    same = ["--sort=name", "--format=gnu", "--owner=root:0", "--group=root:0"]
    same += ["--mode=u=rwX,go=rX", f"--mtime=@{SOURCE_DATE_EPOCH}"]
    command.run(["tar", "-C", root, *same, "-cf", target, PREFIX])
    return target
