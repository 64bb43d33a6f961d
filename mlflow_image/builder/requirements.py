"""What a build needs of this host: memory, disk, user namespaces; one rule for build and doctor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_image import progress, space
from mlflow_image.errors import Refusals
from mlflow_image.host import accelerator, resources, rootless
from mlflow_image.inputs.anaconda import Installer
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import cache
from mlflow_image.space import Room

#: A cold build's trees, tars and disks, beside the store.
NEEDED_DISK_MIB = 12_000
#: Such a build has Anaconda's files this often at once: disks, trees, tars (counted by reading).
ANACONDA_COPIES = 4
NEEDED_MEMORY_MIB = 2_000
MEMORY_REMEDY = "stop a VM (`invoke status` lists them) or another program"
DISK_REMEDY = "run `invoke clean`, or set MLFLOW_IMAGE_CACHE to a folder on a larger disk"


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
        return space.shortage(self.disk_mib, self.folder, DISK_REMEDY)


def of_build(installer: Installer | None = None) -> Requirements:
    """What a cold build needs; Anaconda's files need more disk."""
    anaconda_mib = ANACONDA_COPIES * installer.installed_bytes >> 20 if installer else 0
    return Requirements(NEEDED_MEMORY_MIB, NEEDED_DISK_MIB + anaconda_mib, cache())


def room_of_layer(layer: str, inputs: Inputs) -> Room:
    """The room that a layer needs while it is made."""
    return Room(f"the layer {layer}", cache(), 1, DISK_REMEDY)


def require_host(installer: Installer | None = None) -> None:
    """Refuse a build that this host has no room for, before anything is started.

    Prints how QEMU runs the guest's processor. Raises Refusal or Refusals.
    """
    rootless.require()
    needed = of_build(installer)
    if faults := [fault for fault in (needed.memory_shortage, needed.disk_shortage) if fault]:
        raise Refusals("this host cannot build an image now:", faults)
    progress.say(str(accelerator.choose()))
