"""guest_root: all of the base and of the wheels as the guest has it, or a reason why not."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import command, guest_root, rootless
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs
from tests.unit.conftest import package

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]

SITE = "opt/mlflow/lib/python3.10/site-packages"


@pytest.fixture
def wheels(make_inputs: MakeInputs, tmp_path: Path) -> Callable[..., Inputs]:
    """Makes inputs with wheels of these files in the store: wheels({"a.py": "..."}, ...)."""

    def make(*contents: dict[str, str]) -> Inputs:
        wanted = make_inputs()
        rows = []
        for number, content in enumerate(contents):
            file = tmp_path / "wheel"
            with zipfile.ZipFile(file, "w") as archive:
                for name, text in content.items():
                    archive.writestr(name, text)
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            wanted.store.add(file, sha256, "a wheel")
            row = wanted.wheels[0]
            rows.append(replace(row, sha256=sha256, filename=f"{number}-py3-none-any.whl"))
        return replace(wanted, wheels=tuple(rows))

    return make


@pytest.fixture
def debs(make_inputs: MakeInputs, tmp_path: Path) -> Inputs:
    """Inputs whose base has three packages, each with one file in /lib."""
    wanted = make_inputs()
    rows = []
    for name in ("libc6", "linux-image-virtual", "python3"):
        folder, file = tmp_path / name, tmp_path / f"{name}.deb"
        (folder / "DEBIAN").mkdir(parents=True)
        about = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: a\nDescription: a\n"
        (folder / "DEBIAN" / "control").write_text(about)
        (folder / "lib").mkdir()
        (folder / "lib" / name).write_text(name)
        command.run(["dpkg-deb", "--build", "-Znone", "--root-owner-group", folder, file])
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted.store.add(file, sha256, name)
        rows.append(package(name, sha256=sha256))
    assert wanted.packages
    return replace(wanted, packages=replace(wanted.packages, packages=tuple(rows)))


def test_a_base_whose_packages_are_not_known_has_no_root(
    make_inputs: MakeInputs, tmp_path: Path
) -> None:
    wanted = replace(make_inputs(), packages=None)
    with pytest.raises(Failure, match="the base's packages are not known"):
        guest_root.unpack_packages(wanted, tmp_path / "root")


def test_a_deb_that_the_store_lost_is_named(debs: Inputs, tmp_path: Path) -> None:
    debs.store.path(debs.apt_packages[0].sha256).unlink()
    with pytest.raises(Failure, match=r"libc6=1\.0 \("):
        guest_root.unpack_packages(debs, tmp_path / "root")


def test_a_root_that_does_not_run_here_is_refused_with_its_reason(
    debs: Inputs, tmp_path: Path
) -> None:
    rootless.require()
    with pytest.raises(Failure, match=r"its Python 3\.10 does not run on this host: chroot: "):
        guest_root.unpack_packages(debs, tmp_path / "root")


def test_a_host_that_cannot_unpack_says_so(debs: Inputs, tmp_path: Path, program: Program) -> None:
    program("dpkg-deb", "echo 'dpkg-deb: unknown compression' >&2; exit 2")
    with pytest.raises(Failure, match="on this host: dpkg-deb: unknown compression"):
        guest_root.unpack_packages(debs, tmp_path / "root")


def test_packages_of_merged_and_of_other_systems_meet_in_one_root_without_a_kernel(
    debs: Inputs, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with pytest.raises(Failure, match="does not run"):
        guest_root.unpack_packages(debs, root)
    assert (root / "lib").is_symlink() and (root / "lib64").is_symlink()
    found = sorted(path.name for path in (root / "usr" / "lib").iterdir())
    assert found == ["libc6", "python3"]
    assert not (root / "data.tar").exists()


def test_the_surroundings_of_a_command_go_with_it(tmp_path: Path) -> None:
    rootless.require()
    script = """cd "$1"
    echo x > dev/shm/x
    echo x > dev/null
    head -c 1 dev/urandom | wc -c
    stat -f -c %T dev/shm proc
    tail -n +3 proc/self/net/dev | cut -d: -f1"""
    done = guest_root.run(tmp_path, ["sh", "-c", script, "sh", tmp_path])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["1", "tmpfs", "proc", "lo"]
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["null", "urandom", "zero"]
    assert {path.stat().st_size for path in files} == {0}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/b.py", f"{SITE}/a/b.py"),
        ("a-1.data/purelib/b.py", f"{SITE}/b.py"),
        ("a-1.data/platlib/b/c.py", f"{SITE}/b/c.py"),
        ("a-1.data/data/lib/x/b.py", "opt/mlflow/lib/x/b.py"),
        ("a-1.data/scripts/b.py", None),
        ("a-1.data/headers/b.h", None),
    ],
)
def test_a_wheel_s_files_lie_where_the_guest_has_them(name: str, place: str | None) -> None:
    found = guest_root.place_of(name, "3.10")
    assert (str(found) if found else None) == place


def test_wheels_are_unpacked_whole(wheels: Callable[..., Inputs], tmp_path: Path) -> None:
    wanted = wheels({"a/b.py": "1", "a/b.so": "x", "a-1.dist-info/RECORD": "", "a/d/": ""})
    guest_root.unpack_wheels(wanted, tmp_path)
    site = tmp_path / SITE
    files = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    assert files == ["a-1.dist-info/RECORD", "a/b.py", "a/b.so"]
    assert (site / "a/b.so").read_text() == "x"


def test_a_file_of_two_wheels_must_be_the_same(
    wheels: Callable[..., Inputs], tmp_path: Path
) -> None:
    guest_root.unpack_wheels(wheels({"a.py": "1"}, {"a.py": "1"}), tmp_path / "one")
    with pytest.raises(Failure, match=r"1-py3-none-any\.whl brings another a\.py"):
        guest_root.unpack_wheels(wheels({"a.py": "1"}, {"a.py": "2"}), tmp_path / "two")
