"""What a build needs of this host: memory, disk, user namespaces; one rule for build and doctor."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import progress, space
from mlflow_image.errors import Refusals
from mlflow_image.host import accelerator, resources, rootless
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import cache
from mlflow_image.space import Room

#: A cold build of the default image, with its downloads.
NEEDED_DISK_MIB = 7_000
NEEDED_MEMORY_MIB = 2_000
#: The tree of a vendor's cloud image, whose packages are not known.
CLOUD_TREE_MIB = 3_000
MEMORY_REMEDY = "stop a VM (`invoke status` lists them) or another program"


@dataclass(frozen=True)
class Need:
    """Disk space in MiB: at most at once while a layer is made, and of the finished layer."""

    peak_mib: int
    kept_mib: int


@dataclass(frozen=True)
class Requirements:
    """What a build needs. folder: where it needs the disk space."""

    memory_mib: int
    disk_mib: int
    folder: Path

    @property
    def memory_shortage(self) -> str:
        """One sentence when too little memory is free; empty otherwise."""
        return resources.memory_shortage(self.memory_mib, MEMORY_REMEDY)

    @property
    def disk_shortage(self) -> str:
        """One sentence when too little disk is free; empty otherwise."""
        return space.shortage(self.disk_mib, self.folder, space.CACHE_REMEDY)


def of_build(disk_mib: int = NEEDED_DISK_MIB) -> Requirements:
    """What a build needs: a cold one of the default image, if its disk space is not given."""
    return Requirements(NEEDED_MEMORY_MIB, disk_mib, cache())


def disk_mib(stale: Container[str], inputs: Inputs) -> int:
    """The disk space in MiB that is needed at most at once to make these layers."""
    most = kept = 0
    for layer, need in needs(inputs).items():
        if layer in stale:
            most = max(most, kept + need.peak_mib)
            kept += need.kept_mib
    return most + space.RESERVE_MIB


def needs(inputs: Inputs) -> dict[str, Need]:
    """What each layer needs, as estimated from the inputs.

    The factors count the copies that exist at once: trees, tars, disks. With the default image,
    the layers took at most 1622, 2416, 497 and 2659 MiB; the estimates are 10 to 50 % higher.
    """
    tree, environment = tree_mib(inputs), environment_mib(inputs)
    distribution = inputs.installer.installed_bytes >> 20 if inputs.installer else 0
    # One that the image does not keep is only on the disk of the build VM.
    removed, kept = (0, distribution) if inputs.keeps_distribution else (distribution, 0)
    opt = environment + kept
    both = tree + opt
    return {
        "base": Need(4 * tree, tree),
        "python": Need(3 * opt + removed + tree, 2 * opt),
        "image-files": Need(3 * tree // 2, tree),
        "sealed": Need(9 * both // 4, both // 2),
    }


def tree_mib(inputs: Inputs) -> int:
    """The size of the base's tree: what the packages name as their installed size, and more."""
    if inputs.cloud_image:
        return CLOUD_TREE_MIB
    sizes = (
        re.search(r"^Installed-Size: (\d+)", package.stanza, re.MULTILINE)
        for package in inputs.apt_packages
    )
    return sum(int(size[1]) for size in sizes if size) * 5 // 4 >> 10


def environment_mib(inputs: Inputs) -> int:
    """The size of the environment: wheels are compressed and get bytecode."""
    return 4 * sum(wheel.size_bytes for wheel in inputs.wheels) >> 20


def room_of_layer(layer: str, inputs: Inputs) -> Room:
    """The room that a layer needs while it is made."""
    return Room(f"the layer {layer}", cache(), needs(inputs)[layer].peak_mib, space.CACHE_REMEDY)


def require_host(stale: Container[str], inputs: Inputs) -> None:
    """Refuse to make these layers if this host has no room for them, before anything is started.

    Prints how QEMU runs the guest's processor. Raises Refusal or Refusals.
    """
    rootless.require()
    needed = of_build(disk_mib(stale, inputs))
    if faults := [fault for fault in (needed.memory_shortage, needed.disk_shortage) if fault]:
        raise Refusals("this host cannot build an image now:", faults)
    progress.say(str(accelerator.choose()))
