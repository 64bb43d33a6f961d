"""cloud_image: an image is used only if our pin and the vendor's signed checksums agree."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from mlflow_image.errors import Failure
from mlflow_image.inputs import cloud_image
from mlflow_image.inputs.cloud_image import CloudImage, ImageFile
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.inputs.store import Store
from mlflow_image.progress import Step
from tests.unit.conftest import Served
from tests.unit.inputs.conftest import FILES, IMAGE_CONTENT, RELEASE, SIGNER, VENDOR_KEYRING

OTHER_SIGNER = "B353136D462CC72484CAF39357FE3B596B3F2F40"
SHA256 = hashlib.sha256(IMAGE_CONTENT).hexdigest()


def asked(served: Served) -> list[str]:
    return [path.removeprefix(f"{RELEASE}/") for path in served.asked]


def test_an_image_is_fetched_when_the_pin_and_the_signed_checksums_agree(
    image: CloudImage, store: Store, served: Served
) -> None:
    assert cloud_image.fetch(image, VENDOR_KEYRING, store).read_bytes() == IMAGE_CONTENT
    assert asked(served) == ["SHA256SUMS", "SHA256SUMS.gpg", "image.img"]
    assert cloud_image.has(image, store)


def test_a_fetched_image_needs_no_network(image: CloudImage, store: Store, served: Served) -> None:
    cloud_image.fetch(image, VENDOR_KEYRING, store)
    served.files.clear()
    served.asked.clear()
    assert cloud_image.fetch(image, VENDOR_KEYRING, store).read_bytes() == IMAGE_CONTENT
    assert cloud_image.authenticate(image, VENDOR_KEYRING, store).read_bytes() == IMAGE_CONTENT
    assert asked(served) == []


def test_checksums_in_text_mode_are_understood(image: CloudImage, served: Served) -> None:
    cloud_image.require_listed(replace(image, file="text-mode.img"), FILES, VENDOR_KEYRING)


def refused(image: CloudImage, store: Store, served: Served, keyring: Path = VENDOR_KEYRING) -> str:
    """Why the image is refused. It was not requested, and the store keeps nothing of it."""
    with pytest.raises(Failure) as caught:
        cloud_image.fetch(image, keyring, store)
    assert image.file not in asked(served)
    assert not list((store.root / "cloud-images").iterdir())
    return caught.value.what


def test_checksums_that_were_changed_after_signing_are_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/SHA256SUMS"] += f"{SHA256} *more.img\n".encode()
    assert "bad signature: SHA256SUMS was changed after it was signed" in refused(
        image, store, served
    )


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
    both.write_bytes(VENDOR_KEYRING.read_bytes() + (FILES / "other.gpg").read_bytes())
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = (FILES / "SHA256SUMS.by-other").read_bytes()
    why = refused(image, store, served, both)
    assert f"signed by another key, {OTHER_SIGNER}, not by {SIGNER}" in why
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = (FILES / "SHA256SUMS.gpg").read_bytes()
    assert cloud_image.fetch(image, both, store), "the right key of the same keyring is accepted"


def test_a_file_that_is_not_a_signature_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/SHA256SUMS.gpg"] = b"<html>sign in to this network</html>"
    assert "SHA256SUMS.gpg is not a valid signature" in refused(image, store, served)


def test_an_image_that_is_not_listed_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    absent = replace(image, file="mage.img")
    served.files[f"{RELEASE}/mage.img"] = IMAGE_CONTENT
    assert "mage.img is not listed in " in refused(absent, store, served)


def test_an_image_that_is_listed_with_another_hash_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    why = refused(replace(image, file="replaced.img"), store, served)
    listed = hashlib.sha256(b"another image\n").hexdigest()
    expected = f"lists replaced.img with the sha256 {listed}; the pinned one is {SHA256}"
    assert expected in why


def test_a_missing_keyring_is_named(
    image: CloudImage, store: Store, served: Served, tmp_path: Path
) -> None:
    assert "none.gpg is missing" in refused(image, store, served, tmp_path / "none.gpg")


def test_a_release_that_the_vendor_removed_says_what_to_do(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files.clear()
    with pytest.raises(Failure, match="404") as caught:
        cloud_image.fetch(image, VENDOR_KEYRING, store)
    assert "pin a newer one in locks/cloud-images.yaml" in caught.value.remedy


def test_an_image_with_another_hash_than_the_pinned_one_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.files[f"{RELEASE}/image.img"] = b"someone else's image\n"
    with pytest.raises(Failure, match=r"image\.img has the wrong sha256"):
        cloud_image.fetch(image, VENDOR_KEYRING, store)
    assert not cloud_image.has(image, store)


def test_a_download_that_was_cut_short_is_refused_and_can_be_repeated(
    image: CloudImage, store: Store, served: Served
) -> None:
    served.cut_short.add(f"{RELEASE}/image.img")
    with pytest.raises(Failure, match=r"image\.img"):
        cloud_image.fetch(image, VENDOR_KEYRING, store)
    assert not cloud_image.has(image, store)
    served.cut_short.clear()
    assert cloud_image.fetch(image, VENDOR_KEYRING, store).read_bytes() == IMAGE_CONTENT


def test_checksums_that_were_altered_in_the_store_are_fetched_again(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR_KEYRING, store)
    kept = cloud_image.checksums_folder(image, store) / "SHA256SUMS"
    kept.write_text(f"{SHA256} *image.img\n")
    served.asked.clear()
    cloud_image.fetch(image, VENDOR_KEYRING, store)
    assert kept.read_bytes() == (FILES / "SHA256SUMS").read_bytes()
    assert asked(served) == ["SHA256SUMS", "SHA256SUMS.gpg"]


def test_without_a_network_altered_checksums_are_refused_and_removed(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR_KEYRING, store)
    (cloud_image.checksums_folder(image, store) / "SHA256SUMS").write_text(f"{SHA256} *image.img\n")
    with pytest.raises(Failure, match="bad signature"):
        cloud_image.authenticate(image, VENDOR_KEYRING, store)
    assert not cloud_image.has(image, store)


def test_an_image_that_was_altered_in_the_store_is_refused(
    image: CloudImage, store: Store, served: Served
) -> None:
    cloud_image.fetch(image, VENDOR_KEYRING, store).write_bytes(b"altered")
    with pytest.raises(Failure, match=r"store's copy of image\.img was altered"):
        cloud_image.authenticate(image, VENDOR_KEYRING, store)


def test_an_image_without_its_signed_checksums_counts_as_missing(
    image: CloudImage, store: Store, served: Served
) -> None:
    store.fetch(image.url(image.file), SHA256, image.file)
    assert not cloud_image.has(image, store)
    assert [item.name for item in as_input(image, store).missing()] == ["image.img"]
    with pytest.raises(Failure, match="is not in the store"):
        cloud_image.authenticate(image, VENDOR_KEYRING, store)


def as_input(image: CloudImage, store: Store) -> ImageFile:
    return ImageFile(store, image, lambda: VENDOR_KEYRING)


def test_as_an_input_it_is_missing_until_it_is_fetched(
    image: CloudImage, store: Store, step: Step
) -> None:
    kind = as_input(image, store)
    assert [item.name for item in kind.missing()] == ["image.img"]
    kind.fetch(step)
    assert kind.missing() == []
    store.path(SHA256).write_bytes(b"altered")
    assert [item.name for item in kind.missing()] == ["image.img"]


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
    """Another file of pins, such as a company with a mirror has."""
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
def test_a_malformed_pin_is_refused_with_its_file(
    pins: Path, image: CloudImage, change: dict[str, str], why: str
) -> None:
    pins.write_text(yaml.safe_dump({"ubuntu-22.04": {**asdict(image), **change}}))
    with pytest.raises(Failure, match=why) as caught:
        cloud_image.pinned("ubuntu-22.04")
    assert str(pins) in caught.value.what


@pytest.mark.parametrize("content", [None, "- a list", "{"])
def test_a_malformed_file_of_pins_is_named(pins: Path, content: str | None) -> None:
    if content is not None:
        pins.write_text(content)
    with pytest.raises(Failure, match=r"pins\.yaml does not pin a cloud image"):
        cloud_image.pinned("ubuntu-22.04")
