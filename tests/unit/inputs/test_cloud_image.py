"""cloud_image: an image is taken when our pin and the vendor's signed list agree, else refused."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from mlflow_image.errors import Failure
from mlflow_image.inputs import cloud_image
from mlflow_image.inputs.cloud_image import CloudImage
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.inputs.store import Store
from tests.unit.conftest import Served

FILES = Path(__file__).parent / "cloud_image_files"
VENDOR = FILES / "vendor.gpg"
SIGNER = "C3068FFD8CC1796CDDBE29EAC7310BF402046269"
OTHER_SIGNER = "B353136D462CC72484CAF39357FE3B596B3F2F40"
CONTENT = b"the vendor's image\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
RELEASE = "/release-20240101"


@pytest.fixture
def image(served: Served) -> CloudImage:
    """The stand-in's image, pinned, with everything that belongs to it on the loopback server."""
    for name in ("SHA256SUMS", "SHA256SUMS.gpg"):
        served.files[f"{RELEASE}/{name}"] = (FILES / name).read_bytes()
    served.files[f"{RELEASE}/image.img"] = CONTENT
    return CloudImage(f"{served.address}{RELEASE}", "image.img", SHA256, SIGNER, str(VENDOR))


def asked(served: Served) -> list[str]:
    return [path.removeprefix(f"{RELEASE}/") for path in served.asked]


def test_an_image_that_pin_and_signed_list_agree_on_is_taken(
    image: CloudImage, store: Store, served: Served
) -> None:
    assert cloud_image.fetch(image, VENDOR, store).read_bytes() == CONTENT
    assert asked(served) == ["SHA256SUMS", "SHA256SUMS.gpg", "image.img"]
    assert cloud_image.has(image, store)


def test_what_was_fetched_once_needs_no_network(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR, store)
    served.files.clear()
    served.asked.clear()
    assert cloud_image.fetch(image, VENDOR, store).read_bytes() == CONTENT
    assert cloud_image.verified(image, VENDOR, store).read_bytes() == CONTENT
    assert asked(served) == []


def test_a_list_in_text_mode_is_understood(image: CloudImage, served: Served) -> None:
    cloud_image.check(replace(image, file="text-mode.img"), FILES, VENDOR)


def refused(image: CloudImage, store: Store, served: Served, keyring: Path = VENDOR) -> str:
    """Why the image is refused; before it was even asked for, and nothing of it is kept."""
    with pytest.raises(Failure) as caught:
        cloud_image.fetch(image, keyring, store)
    assert image.file not in asked(served)
    assert not cloud_image.evidence(image, store).exists()
    assert list((store.root / "incoming").iterdir()) == []
    return caught.value.what


def test_a_list_that_was_altered_after_signing_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/SHA256SUMS"] += f"{SHA256} *more.img\n".encode()
    assert "bad signature: SHA256SUMS is not what was signed" in refused(image, store, served)


def test_a_signature_by_a_key_that_the_keyring_lacks_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = (FILES / "SHA256SUMS.by-other").read_bytes()
    why = refused(image, store, served)
    assert f"signed by another key, {OTHER_SIGNER[-16:]}, not by {SIGNER}" in why


def test_a_signature_by_another_key_of_the_keyring_is_refused(
    image: CloudImage, store: Store, served: Served, tmp_path: Path
) -> None:
    both = tmp_path / "both.gpg"
    both.write_bytes(VENDOR.read_bytes() + (FILES / "other.gpg").read_bytes())
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = (FILES / "SHA256SUMS.by-other").read_bytes()
    why = refused(image, store, served, both)
    assert f"signed by another key, {OTHER_SIGNER}, not by {SIGNER}" in why
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = (FILES / "SHA256SUMS.gpg").read_bytes()
    assert cloud_image.fetch(image, both, store), "the right key of the same keyring is taken"


def test_what_is_no_signature_is_refused(image: CloudImage, store: Store, served: Served) -> None:
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = b"<html>sign in to this network</html>"
    assert "SHA256SUMS.gpg is no valid signature" in refused(image, store, served)


def test_an_image_that_is_not_listed_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    absent = replace(image, file="mage.img")
    served.files[f"{RELEASE}/mage.img"] = CONTENT
    assert "mage.img is not listed in " in refused(absent, store, served)


def test_an_image_that_is_listed_with_another_hash_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    why = refused(replace(image, file="replaced.img"), store, served)
    listed = hashlib.sha256(b"another image\n").hexdigest()
    assert f"lists {listed} for replaced.img, where {SHA256} is pinned" in why


def test_a_keyring_that_is_not_there_is_named(
    image: CloudImage, store: Store, served: Served, tmp_path: Path
) -> None:
    assert "none.gpg is missing" in refused(image, store, served, tmp_path / "none.gpg")


def test_a_release_that_the_vendor_removed_says_what_to_do(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files.clear()
    with pytest.raises(Failure, match="404") as caught:
        cloud_image.fetch(image, VENDOR, store)
    assert "pin a newer one in locks/cloud-images.yaml" in caught.value.remedy


def test_other_bytes_than_the_pinned_ones_are_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/image.img"] = b"someone else's image\n"
    with pytest.raises(Failure, match=r"image\.img has the wrong sha256"):
        cloud_image.fetch(image, VENDOR, store)
    assert not cloud_image.has(image, store)


def test_a_download_that_was_cut_short_is_refused_and_can_be_repeated(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.cut_short.add(f"{RELEASE}/image.img")
    with pytest.raises(Failure, match=r"image\.img"):
        cloud_image.fetch(image, VENDOR, store)
    assert not cloud_image.has(image, store)
    served.cut_short.clear()
    assert cloud_image.fetch(image, VENDOR, store).read_bytes() == CONTENT


def test_a_list_that_was_altered_in_the_store_is_fetched_again(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR, store)
    kept = cloud_image.evidence(image, store) / "SHA256SUMS"
    kept.write_text(f"{SHA256} *image.img\n")
    served.asked.clear()
    cloud_image.fetch(image, VENDOR, store)
    assert kept.read_bytes() == (FILES / "SHA256SUMS").read_bytes()
    assert asked(served) == ["SHA256SUMS", "SHA256SUMS.gpg"]


def test_without_a_network_a_list_that_was_altered_is_refused_and_removed(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR, store)
    (cloud_image.evidence(image, store) / "SHA256SUMS").write_text(f"{SHA256} *image.img\n")
    with pytest.raises(Failure, match="bad signature"):
        cloud_image.verified(image, VENDOR, store)
    assert not cloud_image.has(image, store)


def test_an_image_that_was_altered_in_the_store_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR, store).write_bytes(b"altered")
    with pytest.raises(Failure, match=r"store's copy of image\.img was altered"):
        cloud_image.verified(image, VENDOR, store)


def test_the_image_alone_is_not_enough_without_its_signed_list(
    image: CloudImage, store: Store, served: Served
) -> None:
    store.fetch(image.address(image.file), SHA256, image.file)
    assert not cloud_image.has(image, store)
    with pytest.raises(Failure, match="is not in the store"):
        cloud_image.verified(image, VENDOR, store)


pinned = pytest.mark.parametrize("os_name", ["ubuntu-22.04", "ubuntu-24.04"])


@pinned
def test_our_pins_name_a_dated_release_of_the_right_system(os_name: str) -> None:
    image = cloud_image.pinned(os_name)
    system = OPERATING_SYSTEMS[os_name]
    assert image is not None
    assert image.release.startswith("https://")
    assert f"/{system.suite}/release-20" in image.release
    assert image.file == f"ubuntu-{system.version}-server-cloudimg-amd64.img"


def test_a_system_without_a_pin_has_none() -> None:
    assert cloud_image.pinned("debian-12") is None


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another file of pins, as a company with a mirror has one."""
    file = tmp_path / "pins.yaml"
    monkeypatch.setenv("MLFLOW_IMAGE_CLOUD_IMAGES", str(file))
    return file


def test_another_file_of_pins_can_be_named(pins: Path, image: CloudImage) -> None:
    pins.write_text(yaml.safe_dump({"debian-12": asdict(image)}))
    assert cloud_image.pinned("debian-12") == image
    assert cloud_image.pinned("ubuntu-22.04") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sha256": SHA256.upper()}, "sha256 is not 64 lower-case hex digits"),
        ({"signer": SIGNER[-16:]}, "signer is not a fingerprint"),
        ({"url": "x"}, "does not pin a cloud image for ubuntu-22.04"),
    ],
)
def test_a_pin_that_is_none_is_refused_with_its_file(
    pins: Path, image: CloudImage, change: dict[str, str], why: str
) -> None:
    pins.write_text(yaml.safe_dump({"ubuntu-22.04": {**asdict(image), **change}}))
    with pytest.raises(Failure, match=why) as caught:
        cloud_image.pinned("ubuntu-22.04")
    assert str(pins) in caught.value.what


@pytest.mark.parametrize("content", [None, "- a list", "{"])
def test_a_file_of_pins_that_is_none_is_named(pins: Path, content: str | None) -> None:
    if content is not None:
        pins.write_text(content)
    with pytest.raises(Failure, match=r"pins\.yaml does not pin a cloud image"):
        cloud_image.pinned("ubuntu-22.04")
