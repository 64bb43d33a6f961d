"""Tasks for images: plan, fetch, build-image, verify-image."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from mlflow_image import progress
from mlflow_image.builder import keys, recipe
from mlflow_image.builder.bake import packer
from mlflow_image.builder.place import logs_folder
from mlflow_image.builder.plan import decide, outlook, table
from mlflow_image.builder.recipe import Options
from mlflow_image.checks import contract
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find, promote
from mlflow_image.inputs import definition, gather
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Freshness
from mlflow_image.tasks.task import refuse_unknown, task
from mlflow_image.vm.firmware import ovmf_files

DEFINITION_HELP = {
    "definition": "the image definition; default: image.yaml",
    "os": "override: ubuntu-22.04, ubuntu-24.04 or debian-12",
    "python": "override: anaconda, miniforge, system or auto",
    "packages": "override: full or server",
    "offline": "use no network; every input must already be in the store",
    "refresh": "resolve the apt packages again",
    "no-refresh": "keep the list of apt packages, even an old one",
}

BUILD_FIRMWARES = ("bios", "uefi")


def freshness(offline: bool, refresh: bool, no_refresh: bool) -> Freshness:
    """The network flags as one value; raises Refusal when they contradict each other."""
    if refresh and (no_refresh or offline):
        raise Refusal("--refresh contradicts --no-refresh and --offline", remedy="use one of them")
    return Freshness(offline, True if refresh else False if no_refresh else None)


def read_definition(file: str, os: str, python: str, packages: str) -> Definition:
    return definition.read(Path(file) if file else None, os=os, python=python, packages=packages)


def mirror(context: Context) -> str:
    return str(context.config.get("apt_mirror") or "")


@task(
    help={
        **DEFINITION_HELP,
        "packer": "the Packer program to use; default: the one on PATH, else one built with Go",
        "no-verify": "do not boot and check the sealed image",
        "on-error": "cleanup, or abort: keep the VM of a failed layer running for inspection",
        "firmware": "firmware of the build VM: bios or uefi",
        "rebuild": "build this layer and all above it again: base, python, image-files or sealed",
    }
)
def build_image(
    context: Context,
    definition: str = "",
    os: str = "",
    python: str = "",
    packages: str = "",
    offline: bool = False,
    refresh: bool = False,
    no_refresh: bool = False,
    packer: str = "",
    no_verify: bool = False,
    on_error: str = "cleanup",
    firmware: str = "bios",
    rebuild: str = "",
) -> None:
    """Build the image: build stale layers, seal, verify, promote."""
    refuse_unknown("on-error", on_error, ("cleanup", "abort"))
    refuse_unknown("firmware", firmware, BUILD_FIRMWARES)
    if firmware != "bios":
        ovmf_files(firmware)
    refuse_unknown("rebuild", rebuild, ("", *keys.NAMES))
    options = Options(
        freshness=freshness(offline, refresh, no_refresh),
        packer=packer,
        firmware=firmware,
        keep_on_error=on_error == "abort",
        verify=not no_verify,
        rebuild=rebuild,
        apt_mirror=mirror(context),
    )
    image = recipe.build_image(read_definition(definition, os, python, packages), options)
    recipe.report(image)


@task(help={"image": "id, folder or disk file; default: the newest"})
def verify_image(context: Context, image: str = "") -> None:
    """Boot an image and test its contract with Testinfra.

    Stores the result in the image's manifest.
    """
    found = find.resolve(image or None)
    logs = logs_folder("verify")
    result = contract.run(found.disk, logs, found.login)
    if found.manifest:
        promote.add_verification(found.directory, result)
    progress.say(f"{found.id}: {result.summary}")
    contract.require_passed(result, logs)


@task(help=DEFINITION_HELP)
def plan(
    context: Context,
    definition: str = "",
    os: str = "",
    python: str = "",
    packages: str = "",
    offline: bool = False,
    refresh: bool = False,
    no_refresh: bool = False,
) -> None:
    """Show which layers are stale, why, and the expected time."""
    wanted = gather.gather(
        read_definition(definition, os, python, packages),
        freshness(offline, refresh, no_refresh),
        mirror(context),
    )
    rows = decide(keys.of(wanted))
    progress.say(table(rows))
    progress.say(outlook(rows))


@task(help={key: DEFINITION_HELP[key] for key in DEFINITION_HELP if key != "offline"})
def fetch(
    context: Context,
    definition: str = "",
    os: str = "",
    python: str = "",
    packages: str = "",
    refresh: bool = False,
    no_refresh: bool = False,
) -> None:
    """Fetch every input, for `build-image --offline`.

    Also builds Packer if the host has none.
    """
    wanted = gather.gather(
        read_definition(definition, os, python, packages),
        freshness(False, refresh, no_refresh),
        mirror(context),
    )
    gather.fetch(wanted, offline=False, mirror=mirror(context))
    try:
        progress.say(f"builds will use {packer.find()}")
    except Failure as failure:  # the build may run on another host
        progress.warn(str(failure))
    progress.say("every input of this build is in the store")
