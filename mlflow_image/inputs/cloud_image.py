"""The vendor's own cloud image as a base: pinned by sha256, and listed in signed checksums.

An image is used only when two sources agree on its hash: our pins, and the vendor's
SHA256SUMS, which must be signed by the pinned key. SHA256SUMS and its signature are kept in
the store and checked again at each use, so --offline does not rely on an earlier check.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.files import new_folder
from mlflow_image.inputs.download import OnBytes, download
from mlflow_image.inputs.kind import Item, Kind
from mlflow_image.inputs.store import Store
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step

CHECKSUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.gpg"


@dataclass(frozen=True)
class CloudImage:
    """A pinned image; the vendor publishes SHA256SUMS and its signature in the same folder."""

    #: URL of the vendor's folder with this release.
    release: str
    file: str
    sha256: str
    #: Fingerprint of the primary key that signs the checksums, 40 upper-case hex digits.
    signer: str
    #: File with that key: a path in the system's keyring package, or an absolute path.
    keyring: str

    def url(self, name: str) -> str:
        """The URL of a file of this release."""
        return f"{self.release.rstrip('/')}/{name}"


@dataclass(frozen=True)
class ImageFile(Kind):
    """The cloud image as an input, together with its signed checksums."""

    image: CloudImage
    #: Finds the file with the signing key; may fetch a package.
    keyring: Callable[[], Path]

    def items(self) -> list[Item]:
        return [Item(self.image.file, self.image.sha256, 0)]

    def title(self, missing: list[Item]) -> str:
        return self.image.file

    def missing(self) -> list[Item]:
        """As for every kind; an image without its signed checksums counts as missing."""
        super().missing()
        return [] if has(self.image, self.store) else self.items()

    def fetch(self, step: Step) -> None:
        fetch(self.image, self.keyring(), self.store, step.bytes_of)


def pinned(os_name: str, checkout: Checkout = HERE) -> CloudImage | None:
    """The pinned image of an operating system, None when it has none.

    MLFLOW_IMAGE_CLOUD_IMAGES names another file of pins: for a company's mirror, or for the
    tests' stand-in. Raises Failure naming the file when it is malformed.
    """
    chosen = os.environ.get("MLFLOW_IMAGE_CLOUD_IMAGES")
    file = Path(chosen) if chosen else checkout.locks / "cloud-images.yaml"
    try:
        row = yaml.safe_load(file.read_text()).get(os_name)
        image = CloudImage(**row) if row is not None else None
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise Failure(f"{file} does not pin a cloud image for {os_name}: {error!r}") from error
    if image and not re.fullmatch("[0-9a-f]{64}", image.sha256):
        raise Failure(f"{file}: {os_name}: sha256 is not 64 lower-case hex digits")
    if image and not re.fullmatch("[0-9A-F]{40}", image.signer):
        raise Failure(f"{file}: {os_name}: signer is not a fingerprint of 40 hex digits")
    return image


def has(image: CloudImage, store: Store) -> bool:
    """Whether the store has the image, the checksums and their signature; none is checked."""
    folder = checksums_folder(image, store)
    return store.has(image.sha256) and all((folder / n).is_file() for n in (CHECKSUMS, SIGNATURE))


def fetch(image: CloudImage, keyring: Path, store: Store, on_bytes: OnBytes | None = None) -> Path:
    """The image's path in the store. What the store lacks is fetched, the checksums first.

    Raises Failure: see `require_listed` and Store.fetch.
    """
    with store.locked(f"cloud-image-{image.sha256}"):
        if not is_listed(image, keyring, store):
            fetch_checksums(image, keyring, store)
    return store.fetch(image.url(image.file), image.sha256, image.file, on_bytes)


def authenticate(image: CloudImage, keyring: Path, store: Store) -> Path:
    """The image's path in the store, after checking signature, checksums and hash again.

    Raises Failure: see `require_listed` and Store.verified. Checksums that fail the check are
    removed, so that the next fetch downloads them again.
    """
    if not has(image, store):
        raise Failure(f"{image.file} is not in the store", remedy="run `invoke fetch`")
    folder = checksums_folder(image, store)
    try:
        require_listed(image, folder, keyring)
    except Failure:
        shutil.rmtree(folder)
        raise
    return store.verified(image.sha256, image.file)


def require_listed(image: CloudImage, folder: Path, keyring: Path) -> None:
    """Require that the signed checksums in `folder` list the image with the pinned hash.

    The Failure distinguishes: no signature, a bad one, one by another key, an image that
    is not listed, one that is listed with another hash.
    """
    require_signature(image, folder, keyring)
    lines = (folder / CHECKSUMS).read_text(errors="replace").splitlines()
    # sha256sum(1): hash, space, a star for binary files or another space, name.
    listed = [
        line[:64] for line in lines if line[64:66] in (" *", "  ") and line[66:] == image.file
    ]
    if not listed:
        raise Failure(
            f"{image.file} is not listed in {image.url(CHECKSUMS)}",
            remedy="pin a release that lists it, in locks/cloud-images.yaml",
        )
    if listed != [image.sha256]:
        raise Failure(
            f"{image.url(CHECKSUMS)} lists {image.file} with the sha256 {', '.join(listed)}; "
            f"the pinned one is {image.sha256}",
            remedy="the image was rejected; compare with locks/cloud-images.yaml",
        )


def require_signature(image: CloudImage, folder: Path, keyring: Path) -> None:
    """Require that the pinned key signed the checksums (gpgv(1); GnuPG's doc/DETAILS)."""
    if not keyring.is_file():
        raise Failure(
            f"the keyring {keyring} is missing",
            remedy="correct `keyring` in locks/cloud-images.yaml",
        )
    argv = ["gpgv", "--status-fd", "1", "--keyring", str(keyring.absolute())]
    done = command.run([*argv, folder / SIGNATURE, folder / CHECKSUMS], check=False)
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ")]
    status = {words[0]: words[1:] for words in rows}
    url, remedy = image.url(SIGNATURE), "the image was rejected; try again on another network"
    if "BADSIG" in status:
        raise Failure(
            f"{url}: bad signature: {CHECKSUMS} was changed after it was signed", remedy=remedy
        )
    # ERRSIG begins with the key's id. VALIDSIG ends with the fingerprint of the primary key, and
    # may begin with that of a subkey.
    signers = status.get("VALIDSIG", [])[-1:] or status.get("ERRSIG", [])[:1]
    if signers and signers != [image.signer]:
        raise Failure(
            f"{url}: signed by another key, {signers[0]}, not by {image.signer}", remedy=remedy
        )
    if done.returncode != 0 or not signers:
        raise Failure(
            f"{url} is not a valid signature",
            evidence=command.last_lines(done.stderr),
            remedy=remedy,
        )


def is_listed(image: CloudImage, keyring: Path, store: Store) -> bool:
    """Whether the signed checksums in the store list the image; see `require_listed`."""
    try:
        require_listed(image, checksums_folder(image, store), keyring)
    except (Failure, OSError):
        return False
    return True


def checksums_folder(image: CloudImage, store: Store) -> Path:
    """Where the signed checksums of an image are kept."""
    return store.root / "cloud-images" / image.sha256


def fetch_checksums(image: CloudImage, keyring: Path, store: Store) -> None:
    """Fetch the signed checksums; they are stored only if they list the image."""
    target = checksums_folder(image, store)
    with new_folder(target) as folder:
        for name in (CHECKSUMS, SIGNATURE):
            try:
                download(image.url(name), folder / name, f"{name} of {image.file}")
            except Failure as failure:
                failure.remedy = "check the network"
                failure.add_remedy(
                    "vendors remove old releases: if this one is gone, pin a newer one in "
                    "locks/cloud-images.yaml"
                )
                raise
        require_listed(image, folder, keyring)
        shutil.rmtree(target, ignore_errors=True)
