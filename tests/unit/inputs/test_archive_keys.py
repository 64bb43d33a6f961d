"""archive_keys: public sources without paths of the host, keys from a pinned package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.files import hash_file
from mlflow_image.inputs import archive_keys
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS, OperatingSystem
from mlflow_image.inputs.store import Store
from tests.unit.conftest import Served

SYSTEM = OPERATING_SYSTEMS["ubuntu-22.04"]
DEB_PATH = SYSTEM.keyring.deb_path
SOURCES = ("deb http://archive.example/ubuntu jammy main",)
Program = Callable[[str, str], Path]


def test_public_sources_are_those_that_mmdebstrap_writes(program: Program) -> None:
    program(
        "mmdebstrap",
        """cat >&2 <<'END'
I: running setup hook
SOURCE deb [signed-by="/a/path/of/this/host"] http://archive.example/ubuntu jammy main universe
SOURCE deb http://security.example/ubuntu jammy-security main universe
SOURCE # a comment
E: setup hook failed
END
exit 25""",
    )
    assert archive_keys.public_sources(SYSTEM) == (
        "deb http://archive.example/ubuntu jammy main universe",
        "deb http://security.example/ubuntu jammy-security main universe",
    )


def test_a_suite_that_mmdebstrap_does_not_know_is_reported(program: Program) -> None:
    program("mmdebstrap", "echo 'E: unknown suite' >&2; exit 25")
    with pytest.raises(Failure, match="does not name the apt sources of jammy") as caught:
        archive_keys.public_sources(SYSTEM)
    assert caught.value.evidence == "E: unknown suite"


@pytest.fixture
def keyrings(tmp_path: Path) -> Path:
    """An empty folder in place of /usr/share/keyrings."""
    folder = tmp_path / "keyrings"
    folder.mkdir()
    return folder


@pytest.fixture
def pinned(tmp_path: Path, served: Served) -> OperatingSystem:
    """A system whose keyring package is on the loopback server, pinned by its hash."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN").chmod(0o755)  # dpkg-deb requires this, whatever the umask is
    (tree / "DEBIAN" / "control").write_text(
        "Package: k\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: keys\n"
    )
    key = tree / SYSTEM.keyring.path
    key.parent.mkdir(parents=True)
    key.write_text("the archive's keys")
    deb = tmp_path / "k.deb"
    command.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, deb])
    served.files[f"/ubuntu/{DEB_PATH}"] = deb.read_bytes()
    return replace(SYSTEM, keyring=replace(SYSTEM.keyring, deb_sha256=hash_file(deb)))


def test_the_host_s_own_keyring_is_preferred(keyrings: Path, store: Store) -> None:
    own = keyrings / "ubuntu-archive-keyring.gpg"
    own.touch()
    assert archive_keys.keyring(SYSTEM, SOURCES, "", store, keyrings) == own


def test_a_missing_keyring_is_taken_from_the_pinned_package(
    keyrings: Path, pinned: OperatingSystem, store: Store, served: Served
) -> None:
    mirror = f"{served.address}/ubuntu/"
    for _ in range(2):
        found = archive_keys.keyring(pinned, SOURCES, mirror, store, keyrings)
        assert found.read_text() == "the archive's keys"
    assert served.asked == [f"/ubuntu/{DEB_PATH}"], "the second time it is in the store"


def test_without_a_mirror_the_package_comes_from_the_public_archive(
    keyrings: Path, pinned: OperatingSystem, store: Store, served: Served
) -> None:
    sources = (f"deb {served.address}/ubuntu jammy main",)
    found = archive_keys.keyring(pinned, sources, "", store, keyrings)
    assert found.read_text() == "the archive's keys"


def test_another_package_than_the_pinned_one_is_refused(
    keyrings: Path, pinned: OperatingSystem, store: Store, served: Served
) -> None:
    served.files[f"/ubuntu/{DEB_PATH}"] = b"someone else's keys"
    with pytest.raises(Failure, match=r"ubuntu-keyring_.*\.deb has the wrong sha256"):
        archive_keys.keyring(pinned, SOURCES, f"{served.address}/ubuntu", store, keyrings)


def test_a_missing_keyring_without_a_pinned_package_is_reported(
    keyrings: Path, store: Store
) -> None:
    with pytest.raises(Failure, match=r"debian-archive-keyring\.gpg is missing") as caught:
        archive_keys.keyring(OPERATING_SYSTEMS["debian-12"], SOURCES, "", store, keyrings)
    assert "apt install debian-archive-keyring" in caught.value.remedy


def test_the_key_of_cloud_images_is_taken_from_the_same_package(
    keyrings: Path, pinned: OperatingSystem, store: Store, served: Served
) -> None:
    other = SYSTEM.keyring.path
    pinned = replace(pinned, keyring=replace(pinned.keyring, path="usr/share/another.gpg"))
    mirror = f"{served.address}/ubuntu"
    found = archive_keys.vendor_keyring(pinned, other, mirror, store, keyrings)
    assert found.read_text() == "the archive's keys"


def test_the_host_s_own_key_of_cloud_images_is_preferred(keyrings: Path, store: Store) -> None:
    own = keyrings / "ubuntu-cloudimage-keyring.gpg"
    own.touch()
    path = "usr/share/keyrings/ubuntu-cloudimage-keyring.gpg"
    assert archive_keys.vendor_keyring(SYSTEM, path, "", store, keyrings) == own


def test_a_keyring_may_be_any_file_of_this_machine(tmp_path: Path, store: Store) -> None:
    assert archive_keys.vendor_keyring(SYSTEM, "/a/key.gpg", "", store) == Path("/a/key.gpg")
