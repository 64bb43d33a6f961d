"""Where files are: the folders of a checkout and the user's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Checkout:
    """The folders of one copy of this repository. root: its top folder."""

    root: Path

    @property
    def state(self) -> Path:
        """The state of this checkout: its VMs, locks and logs."""
        return self.root / ".mlflow-image"

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def guest_scripts(self) -> Path:
        return self.root / "scripts" / "guest"

    @property
    def image_files(self) -> Path:
        return self.root / "image_files"

    @property
    def modes_file(self) -> Path:
        """The table of owners and modes for image_files/."""
        return self.guest_scripts / "image_files.modes"

    @property
    def plugin(self) -> Path:
        """The MLflow plugin for HDFS, a Python package of its own."""
        return self.root / "plugins" / "mlflow-hdfs"

    @property
    def build_vm_files(self) -> Path:
        """Files that only a build VM has; the seal removes them from the tree."""
        return self.guest_scripts / "build-vm"

    @property
    def code(self) -> Path:
        """The Python code of the pipeline."""
        return self.root / "mlflow_image"


#: The checkout that this code was loaded from.
HERE = Checkout(Path(__file__).resolve().parent.parent)


def typed_path(text: str) -> Path:
    """A path as a user types it: a leading `~` is expanded, unless it names an unknown user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for ~nobody


def cache() -> Path:
    """Our folder in the user's cache folder; MLFLOW_IMAGE_CACHE overrides it."""
    chosen = os.environ.get("MLFLOW_IMAGE_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("mlflow-image")
