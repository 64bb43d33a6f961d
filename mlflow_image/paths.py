"""Where things live: the checkout's own folders and the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CHECKOUT = Path(__file__).resolve().parent.parent
#: VM names and state, and what was decided once for this checkout.
STATE = CHECKOUT / ".mlflow-image"
DIST = CHECKOUT / "dist"
LOCKS = CHECKOUT / "locks"
GUEST_SCRIPTS = CHECKOUT / "scripts" / "guest"
IMAGE_FILES = CHECKOUT / "image_files"
#: What a build VM has over the base's tree, and the seal takes away.
BUILD_VM_FILES = GUEST_SCRIPTS / "build-vm"


def typed_path(text: str) -> Path:
    """A path as people type it, `~` included; `~nobody` is a name like any other."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for ~nobody


def cache() -> Path:
    """The user's cache directory of this product; MLFLOW_IMAGE_CACHE overrides it."""
    chosen = os.environ.get("MLFLOW_IMAGE_CACHE")
    return Path(chosen).absolute() if chosen else platformdirs.user_cache_path("mlflow-image")
