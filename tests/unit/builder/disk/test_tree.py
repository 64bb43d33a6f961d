"""Trees: mmdebstrap gets a repository that consists of the store's files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder.disk import tree
from mlflow_image.errors import Failure
from mlflow_image.files import hash_file
from mlflow_image.inputs.apt import Package, Resolution
from mlflow_image.inputs.operating_systems import OPERATING_SYSTEMS
from mlflow_image.inputs.store import Store
from tests.unit.samples import package

SYSTEM = OPERATING_SYSTEMS["debian-12"]


def stored(store: Store, tmp_path: Path, name: str) -> Package:
    file = tmp_path / name
    file.write_bytes(name.encode())
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    store.add(file, sha256, name)
    row = package(name, sha256=sha256)
    return replace(row, stanza=f"{row.stanza}\nFilename: pool/{name}_1.0_amd64.deb\nSize: 4")


@pytest.fixture
def resolution(store: Store, tmp_path: Path) -> Resolution:
    packages = tuple(stored(store, tmp_path, name) for name in ("bash", "zlib"))
    return Resolution(packages, ("deb http://archive.example bookworm main",), 0.0)


def test_the_repository_lists_the_files_of_the_store(
    resolution: Resolution, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    tree.write_repository(resolution, SYSTEM, store, folder)
    bash, zlib = resolution.packages
    assert (folder / f"{bash.sha256}.deb").read_bytes() == b"bash"
    assert (folder / "Packages").read_text() == (
        f"Package: bash\nVersion: 1.0\nFilename: ./{bash.sha256}.deb\nSize: 4\n\n"
        f"Package: zlib\nVersion: 1.0\nFilename: ./{zlib.sha256}.deb\nSize: 4\n"
    )


def test_the_release_file_names_the_suite_and_the_hash_of_the_list(
    resolution: Resolution, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    tree.write_repository(resolution, SYSTEM, store, folder)
    lines = (folder / "Release").read_text().splitlines()
    size = (folder / "Packages").stat().st_size
    assert lines[:2] == ["Suite: bookworm", "Codename: bookworm"]
    assert lines[-1] == f" {hash_file(folder / 'Packages')} {size} Packages"


def test_a_deb_that_was_altered_in_the_store_is_refused_by_name(
    resolution: Resolution, store: Store, tmp_path: Path
) -> None:
    store.path(resolution.packages[0].sha256).write_bytes(b"altered")
    with pytest.raises(Failure, match=r"copy of bash=1\.0 was altered"):
        tree.write_repository(resolution, SYSTEM, store, tmp_path / "repository")


def test_a_missing_deb_is_named(resolution: Resolution, store: Store, tmp_path: Path) -> None:
    store.path(resolution.packages[1].sha256).unlink()
    with pytest.raises(Failure, match=r"zlib=1\.0 .* is not in the store"):
        tree.write_repository(resolution, SYSTEM, store, tmp_path / "repository")
