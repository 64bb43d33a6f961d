"""The vendor's own cloud image as a base: pinned by sha256, listed under the vendor's signature.

Two independent promises must agree before a byte of it is used: the hash in our pins, and
the one in the vendor's SHA256SUMS, whose detached signature is by the pinned key. List and
signature are kept in the store and checked again every time, so --offline trusts no note of
an earlier check.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlflow_image import command, paths
from mlflow_image.errors import Failure
from mlflow_image.inputs.store import OnBytes, Store, download

PINS = paths.HERE.locks / "cloud-images.yaml"
CHECKSUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.gpg"


@dataclass(frozen=True)
class CloudImage:
    """A pinned image; SHA256SUMS and its signature lie beside it at the vendor's."""

    #: Address of the vendor's folder with this release.
    release: str
    file: str
    sha256: str
    #: Fingerprint of the primary key that signs the checksums, 40 upper-case hex digits.
    signer: str
    #: Where that key lies: a path in the system's keyring package, or an absolute one.
    keyring: str

    def address(self, name: str) -> str:
        """The address of a file of this release."""
        return f"{self.release.rstrip('/')}/{name}"


def pinned(os_name: str) -> CloudImage | None:
    """The pinned image of an operating system, None when it has none.

    MLFLOW_IMAGE_CLOUD_IMAGES names another file of pins: a mirror inside a company, or the
    stand-in of the tests. Raises Failure naming the file when it is malformed.
    """
    file = Path(os.environ.get("MLFLOW_IMAGE_CLOUD_IMAGES") or PINS)
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
    """Whether the store holds the image, and the signed list that vouches for it."""
    kept = evidence(image, store)
    return store.has(image.sha256) and (kept / CHECKSUMS).is_file() and (kept / SIGNATURE).is_file()


def fetch(image: CloudImage, keyring: Path, store: Store, on_bytes: OnBytes | None = None) -> Path:
    """The image in the store, fetched unless it is there; the vendor's word is checked first.

    Raises Failure: see `check`, and Store.fetch.
    """
    with store.locked(f"cloud-image-{image.sha256}"):
        if not vouched(image, keyring, store):
            fetch_evidence(image, keyring, store)
    return store.fetch(image.address(image.file), image.sha256, image.file, on_bytes)


def verified(image: CloudImage, keyring: Path, store: Store) -> Path:
    """The image out of the store, with its list, signature and hash checked again.

    Raises Failure: see `check`, and Store.verified. A list that does not vouch for the image
    is removed, so that the next fetch brings the right one.
    """
    if not has(image, store):
        raise Failure(f"{image.file} is not in the store", remedy="`invoke fetch`")
    try:
        check(image, evidence(image, store), keyring)
    except Failure:
        shutil.rmtree(evidence(image, store))
        raise
    return store.verified(image.sha256, image.file)


def check(image: CloudImage, folder: Path, keyring: Path) -> None:
    """Refuse an image that the signed list in `folder` does not vouch for.

    Raises Failure saying which: no signature, a bad one, one by another key, not listed,
    listed with another hash.
    """
    require_signature(image, folder, keyring)
    lines = (folder / CHECKSUMS).read_text(errors="replace").splitlines()
    # sha256sum(1): hash, space, a star for binary files or another space, name.
    listed = [
        line[:64] for line in lines if line[64:66] in (" *", "  ") and line[66:] == image.file
    ]
    if not listed:
        raise Failure(
            f"{image.file} is not listed in {image.address(CHECKSUMS)}",
            remedy="pin a release that is, in locks/cloud-images.yaml",
        )
    if listed != [image.sha256]:
        raise Failure(
            f"{image.address(CHECKSUMS)} lists {', '.join(listed)} for {image.file}, where "
            f"{image.sha256} is pinned",
            remedy="the image was refused; see locks/cloud-images.yaml",
        )


def require_signature(image: CloudImage, folder: Path, keyring: Path) -> None:
    """Refuse a list that the pinned key did not sign (gpgv(1); GnuPG's doc/DETAILS)."""
    if not keyring.is_file():
        raise Failure(f"the keyring {keyring} is missing", remedy="name another in the pins")
    argv = ["gpgv", "--status-fd", "1", "--keyring", str(keyring.absolute())]
    done = command.run([*argv, folder / SIGNATURE, folder / CHECKSUMS], check=False)
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ")]
    status = {words[0]: words[1:] for words in said}
    address, remedy = image.address(SIGNATURE), "the image was refused; try another network"
    if "BADSIG" in status:
        raise Failure(
            f"{address}: bad signature: {CHECKSUMS} is not what was signed", remedy=remedy
        )
    if "ERRSIG" in status:
        raise Failure(
            f"{address}: signed by another key, {status['ERRSIG'][0]}, not by {image.signer}",
            remedy=remedy,
        )
    # The last word is the primary key's fingerprint; the first may be a subkey's.
    signers = status.get("VALIDSIG", [])
    if signers and signers[-1] != image.signer:
        raise Failure(
            f"{address}: signed by another key, {signers[-1]}, not by {image.signer}",
            remedy=remedy,
        )
    if done.returncode != 0 or not signers:
        raise Failure(
            f"{address} is no valid signature",
            evidence=command.last_lines(done.stderr),
            remedy=remedy,
        )


def vouched(image: CloudImage, keyring: Path, store: Store) -> bool:
    """Whether list and signature in the store vouch for the image; altered ones do not."""
    try:
        check(image, evidence(image, store), keyring)
    except (Failure, OSError):
        return False
    return True


def evidence(image: CloudImage, store: Store) -> Path:
    """Where the signed list that vouches for an image is kept."""
    return store.root / "cloud-images" / image.sha256


def fetch_evidence(image: CloudImage, keyring: Path, store: Store) -> None:
    """Bring list and signature into the store, if they vouch for the image."""
    with store.incoming() as folder:
        for name in (CHECKSUMS, SIGNATURE):
            try:
                download(image.address(name), folder / name, f"{name} of {image.file}")
            except Failure as failure:
                raise Failure(
                    failure.what,
                    remedy="check the network; vendors remove dated releases after a while: "
                    "then pin a newer one in locks/cloud-images.yaml",
                ) from failure
        check(image, folder, keyring)
        target = evidence(image, store)
        target.mkdir(parents=True, exist_ok=True)
        for name in (CHECKSUMS, SIGNATURE):
            (folder / name).replace(target / name)
