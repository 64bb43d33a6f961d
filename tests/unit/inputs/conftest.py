"""For the tests of inputs: a checkout of their own, a signed cloud image on the loopback server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.paths import HERE, Checkout
from tests.unit.conftest import Served

FILES = Path(__file__).parent / "cloud_image_files"
VENDOR_KEYRING = FILES / "vendor.gpg"
SIGNER = "C3068FFD8CC1796CDDBE29EAC7310BF402046269"
RELEASE = "/release-20240101"
IMAGE_CONTENT = b"the vendor's image\n"


@pytest.fixture
def own_checkout(tmp_path: Path) -> Checkout:
    """A checkout with our lock files and a state folder that only this test sees."""
    root = tmp_path / "own_checkout"
    root.mkdir()
    (root / "locks").symlink_to(HERE.locks)
    return Checkout(root)


@pytest.fixture
def image(served: Served) -> CloudImage:
    """The stand-in image, pinned and served together with its signed checksums."""
    for name in ("SHA256SUMS", "SHA256SUMS.gpg"):
        served.files[f"{RELEASE}/{name}"] = (FILES / name).read_bytes()
    served.files[f"{RELEASE}/image.img"] = IMAGE_CONTENT
    sha256 = hashlib.sha256(IMAGE_CONTENT).hexdigest()
    return CloudImage(
        f"{served.address}{RELEASE}", "image.img", sha256, SIGNER, str(VENDOR_KEYRING)
    )
