"""The payload: the same bytes from every clone, with every umask, at every time."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image.builder.bake import payload
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.errors import Failure
from mlflow_image.inputs import anaconda
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE, Checkout
from mlflow_image.vm import seed

MakeInputs = Callable[..., Inputs]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def entries(tar: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(tar) as opened:
        return {entry.name: entry for entry in opened}


def test_modes_and_owners_do_not_come_from_the_clone(work: Path, checkout: Checkout) -> None:
    for path in checkout.image_files.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o640)  # as in a clone made with another umask
    found = entries(payload.image_files(checkout, work))
    assert found["./usr/bin/mlflow-configure"].mode == 0o755
    assert found["./usr/lib/systemd/system/mlflow-tracking.service"].mode == 0o644
    assert found["./usr/lib/systemd"].mode == 0o755
    assert {(e.uname, e.gname, e.mtime) for e in found.values()} == {
        ("root", "root", SOURCE_DATE_EPOCH)
    }


def test_a_row_of_the_table_sets_owner_and_mode(work: Path, checkout: Checkout) -> None:
    with checkout.modes_file.open("a") as file:
        file.write("0750 root mlflow /usr/lib/mlflow-image  # a folder may have a row too\n")
    entry = entries(payload.image_files(checkout, work))["./usr/lib/mlflow-image"]
    assert (oct(entry.mode), entry.uname, entry.gname) == ("0o750", "root", "mlflow")


def test_the_tar_contains_everything_in_image_files(work: Path, checkout: Checkout) -> None:
    tree = checkout.image_files
    expected = {f"./{path.relative_to(tree)}" for path in tree.rglob("*")}
    found = entries(payload.image_files(checkout, work))
    assert set(found) == expected
    link = next(e for e in found.values() if e.name.endswith("wants/mlflow-tracking.service"))
    assert link.issym() and link.mode == 0o777


@pytest.mark.usefixtures("strict_umask")
def test_two_clones_give_the_same_bytes(tmp_path: Path, checkout: Checkout) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first = payload.image_files(checkout, one).read_bytes()
    other = tmp_path / "other-clone"
    shutil.copytree(checkout.root, other, symlinks=True, copy_function=shutil.copyfile)
    assert payload.image_files(Checkout(other), two).read_bytes() == first


def test_a_row_for_a_path_that_is_not_in_image_files_is_refused(
    work: Path, checkout: Checkout
) -> None:
    with checkout.modes_file.open("a") as file:
        file.write("0600 root root /etc/mispelt\n")
    with pytest.raises(
        Failure, match=r"image_files\.modes names paths that .* does not have: /etc/mispelt"
    ):
        payload.image_files(checkout, work)


@pytest.fixture
def stored(make_inputs: MakeInputs, tmp_path: Path) -> Inputs:
    """Small inputs with their wheels in the store; the tool's wheel contains a program."""
    wanted = make_inputs()
    wheel = tmp_path / "uv.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-0.9.0.data/scripts/uv", "#!/bin/sh\necho uv\n")
    added = []
    for number, row in enumerate((*wanted.wheels, *wanted.tools)):
        file = tmp_path / row.filename
        file.write_bytes(wheel.read_bytes() if row.name == "uv" else bytes([number]))
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted.store.add(file, sha256, row.filename)
        added.append(replace(row, sha256=sha256))
    return replace(wanted, wheels=tuple(added[:-1]), tools=(added[-1],))


def test_the_payload_has_the_wheels_and_an_executable_tool(stored: Inputs, work: Path) -> None:
    files = payload.environment_files(stored, HERE, work)
    lines = files["requirements.txt"].read_text().splitlines()
    own = lines.pop()
    assert own.startswith("mlflow-hdfs==")
    assert f"wheels/{own.partition('  # ')[2].partition(',')[0]}" in files
    assert lines == [wheel.line for wheel in stored.wheels]
    for wheel in stored.wheels:
        assert files[f"wheels/{wheel.filename}"] == stored.store.path(wheel.sha256)
    assert files["uv"].read_text() == "#!/bin/sh\necho uv\n"
    assert os.access(files["uv"], os.X_OK)
    assert {"environment.sh", "prepare/make-empty-database"} <= set(files)
    assert all(path.is_file() for path in files.values())


def test_the_payload_for_anaconda_also_has_its_installer(
    stored: Inputs, work: Path, tmp_path: Path
) -> None:
    (tmp_path / "installer").write_text("#!/bin/sh\n")
    sha256 = hashlib.sha256((tmp_path / "installer").read_bytes()).hexdigest()
    stored.store.add(tmp_path / "installer", sha256, "an installer")
    installer = replace(anaconda.read_installer("anaconda"), sha256=sha256)
    files = payload.environment_files(replace(stored, installer=installer), HERE, work)
    assert {"conda.sh", "environment.sh", anaconda.NAME_ON_DISC} <= set(files)


def test_a_wheel_that_was_altered_in_the_store_is_refused(stored: Inputs, work: Path) -> None:
    stored.store.path(stored.wheels[0].sha256).write_bytes(b"altered")
    with pytest.raises(Failure, match=r"copy of boto3-1\.40\.0-py3-none-any\.whl was altered"):
        payload.environment_files(stored, HERE, work)


def test_a_vm_on_our_own_base_gets_only_the_key(work: Path) -> None:
    files = payload.access("ssh-ed25519 AAAA key", work, of_cloud_image=False)
    assert {name: path.read_text() for name, path in files.items()} == {
        "authorized_keys": "ssh-ed25519 AAAA key\n"
    }


def test_a_vm_on_a_cloud_image_gets_the_key_through_cloud_init(work: Path) -> None:
    files = payload.access("ssh-ed25519 AAAA key", work, of_cloud_image=True)
    assert files["user-data"].read_text().startswith("#cloud-config\n")
    assert "ssh-ed25519 AAAA key" in files["user-data"].read_text()
    assert files["meta-data"].read_text().startswith("instance-id: build\n")
    assert "authorized_keys" not in files


@pytest.mark.skipif(
    not (shutil.which("xorriso") or shutil.which("genisoimage")),
    reason="needs xorriso or genisoimage",
)
def test_the_disc_is_private_and_contains_the_files(work: Path, tmp_path: Path) -> None:
    file = tmp_path / "some file"
    file.write_bytes(b"found on the disc")
    disc = payload.write_disc({"wheels/a.whl": file}, work)
    content = disc.read_bytes()
    assert content[32769 : 32769 + 5] == b"CD001"
    assert content[32808 : 32808 + 32].strip().lower() == b"cidata"
    assert b"found on the disc" in content
    assert disc.stat().st_mode & 0o777 == 0o600
    assert seed.iso_tool()
