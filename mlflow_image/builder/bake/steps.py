"""Which scripts make a layer: the numbered steps of scripts/guest, and what they call."""

from __future__ import annotations

from pathlib import Path

from mlflow_image.paths import HERE, Checkout

#: Starts the installer of a conda distribution.
CONDA_SCRIPT = "conda.sh"
#: Makes /opt/mlflow, in a chroot on the host or in the build VM.
ENVIRONMENT_SCRIPT = "environment.sh"

#: Files of the image that environment.sh runs, relative to image_files/PREPARE_FOLDER.
PREPARE_FOLDER = "usr/lib/mlflow-image"
PREPARE_FILES = (
    "make-empty-database",
    "mlflow_launch/__init__.py",
    "mlflow_launch/bundle.py",
    "mlflow_launch/empty_database.py",
    "mlflow_launch/log.py",
    "mlflow_launch/mlflow_names.py",
    "mlflow_launch/own_access.py",
    "mlflow_launch/places.py",
    "mlflow_launch/preload.py",
    "mlflow_launch/prepare.py",
    "mlflow_launch/ready.py",
    "mlflow_launch/rehearsal.py",
)

#: Scripts that a layer's steps call from the payload.
CALLED_SCRIPTS = {
    "python": (ENVIRONMENT_SCRIPT, "hand-over.sh"),
    "image-files": ("hand-over.sh",),
}


def scripts_of(layer: str, checkout: Checkout = HERE) -> list[Path]:
    """The steps of a layer in order; each step names its layer in its second line."""
    return [
        path
        for path in sorted(checkout.guest_scripts.glob("[0-9]*.sh"))
        if f"# layer: {layer}" in path.read_text().splitlines()[:3]
    ]


def called_scripts(layer: str, checkout: Checkout = HERE) -> dict[str, Path]:
    """The scripts that a layer's steps call: name on the payload -> file."""
    return {name: checkout.guest_scripts / name for name in CALLED_SCRIPTS.get(layer, ())}


def prepare_files(checkout: Checkout = HERE) -> dict[str, Path]:
    """The files that environment.sh runs: name below PREPARE_FOLDER -> file."""
    folder = checkout.image_files / PREPARE_FOLDER
    return {name: folder / name for name in PREPARE_FILES}
