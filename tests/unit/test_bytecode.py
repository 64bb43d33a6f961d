"""bytecode: made by the guest's Python here or left to the guest, and never half of it."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import bytecode, command, rootless
from mlflow_image.command import Completed
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs
from mlflow_image.paths import GUEST_SCRIPTS
from mlflow_image.progress import Step
from mlflow_image.tree import SOURCE_DATE_EPOCH
from tests.unit.conftest import package

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]

SITE = "opt/mlflow/lib/python3.10/site-packages"
#: What compileall says of a file for another Python.
FOR_ANOTHER = """*** Error compiling '/opt/mlflow/lib/python3.10/site-packages/a/py2.py'...
  File "/opt/mlflow/lib/python3.10/site-packages/a/py2.py", line 1
    print 1
SyntaxError: Missing parentheses in call to 'print'
"""
NO_SPACE = """*** Error compiling '/opt/mlflow/lib/python3.10/site-packages/a/b.py'...
OSError: [Errno 28] No space left on device
"""


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
    """Inputs whose base has every package of the guest's Python, each with one file in /lib."""
    wanted = make_inputs()
    rows = []
    for name in (name.format(python="3.10") for name in bytecode.PACKAGES):
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


def completed(returncode: int, out: str = "", err: str = "") -> Completed:
    return Completed(("compileall",), returncode, out, err, 1.0)


def test_a_base_whose_python_is_not_known_leaves_it_to_the_guest_and_says_so(
    make_inputs: MakeInputs, tmp_path: Path, step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bytecode.of_wheels(make_inputs(), tmp_path, step) is None
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "in the guest" in line]
    assert "the base has no known package libc6, " in line
    assert "python3.10-minimal" in line


def test_a_deb_that_the_store_lost_leaves_it_to_the_guest(
    debs: Inputs, tmp_path: Path, step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    debs.store.path(debs.apt_packages[0].sha256).unlink()
    assert bytecode.of_wheels(debs, tmp_path, step) is None
    assert "in the guest: libc6=1.0 (" in capsys.readouterr().out


def test_a_python_that_does_not_run_here_leaves_it_to_the_guest(
    debs: Inputs, tmp_path: Path, step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    rootless.require()
    assert bytecode.of_wheels(debs, tmp_path, step) is None
    said = capsys.readouterr().out
    assert "in the guest: its Python 3.10 does not run on this host: chroot: " in said


def test_a_host_that_cannot_unpack_leaves_it_to_the_guest(
    debs: Inputs, tmp_path: Path, step: Step, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    program("dpkg-deb", "echo 'dpkg-deb: unknown compression' >&2; exit 2")
    assert bytecode.of_wheels(debs, tmp_path, step) is None
    assert "on this host: dpkg-deb: unknown compression" in capsys.readouterr().out


def test_packages_of_merged_and_of_other_systems_meet_in_one_root(
    debs: Inputs, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with pytest.raises(Failure, match="does not run"):
        bytecode.unpack_python(debs, root)
    assert (root / "lib").is_symlink() and (root / "lib64").is_symlink()
    assert (root / "usr" / "lib" / "libc6").read_text() == "libc6"
    assert not (root / "data.tar").exists()


def test_semaphores_have_a_place_that_goes_with_the_command(tmp_path: Path) -> None:
    rootless.require()
    script = 'touch "$1/dev/shm/x" && stat -f -c %T "$1/dev/shm"'
    done = bytecode.run_in(tmp_path, ["sh", "-c", script, "sh", tmp_path])
    assert (done.returncode, done.stdout) == (0, "tmpfs\n")
    assert list((tmp_path / "dev" / "shm").iterdir()) == []


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
    found = bytecode.place_of(name, "3.10")
    assert (str(found) if found else None) == place


def test_only_sources_are_unpacked(wheels: Callable[..., Inputs], tmp_path: Path) -> None:
    wanted = wheels({"a/b.py": "1", "a/b.so": "x", "a-1.dist-info/RECORD": "", "a/d/": ""})
    bytecode.unpack_sources(wanted, tmp_path / "root")
    files = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
    assert files == [tmp_path / "root" / SITE / "a" / "b.py"]


def test_a_file_of_two_wheels_must_be_the_same(
    wheels: Callable[..., Inputs], tmp_path: Path
) -> None:
    bytecode.unpack_sources(wheels({"a.py": "1"}, {"a.py": "1"}), tmp_path / "one")
    with pytest.raises(Failure, match=r"1-py3-none-any\.whl brings another a\.py"):
        bytecode.unpack_sources(wheels({"a.py": "1"}, {"a.py": "2"}), tmp_path / "two")


@pytest.mark.parametrize("done", [completed(0), completed(1, FOR_ANOTHER)])
def test_a_file_for_another_python_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: Completed
) -> None:
    monkeypatch.setattr(bytecode, "run_in", lambda *_: done)
    bytecode.compile_sources("3.10", tmp_path)


@pytest.mark.parametrize(
    "done",
    [
        completed(1),
        completed(137),
        completed(0, FOR_ANOTHER),
        completed(1, NO_SPACE),
        completed(1, FOR_ANOTHER, "Traceback (most recent call last):\nBrokenProcessPool: a\n"),
    ],
)
def test_a_compilation_that_did_not_come_to_its_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: Completed
) -> None:
    monkeypatch.setattr(bytecode, "run_in", lambda *_: done)
    with pytest.raises(Failure, match=f"ended with exit code {done.returncode}"):
        bytecode.compile_sources("3.10", tmp_path)


def test_the_step_is_the_guest_s_own_and_the_caller_s_environment_has_no_say(
    monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    python = program("some-python", 'echo "$*"; env | grep ^PYTHON')
    script = GUEST_SCRIPTS / "byte-compile.sh"
    words, *environment = command.run(["bash", script, python, "-s"]).stdout.splitlines()
    assert words.startswith("-s -m compileall ")
    assert "--invalidation-mode unchecked-hash" in words
    assert words.endswith(" /opt/mlflow/lib")
    assert environment == ["PYTHONHASHSEED=0"]


def test_the_tar_has_the_bytecode_alone_and_nothing_of_this_host(tmp_path: Path) -> None:
    tars = []
    for clone, names in (("one", ["a", "b"]), ("two", ["b", "a"])):
        site = tmp_path / clone / SITE
        for name in names:
            (site / name / "__pycache__").mkdir(parents=True)
            (site / name / "m.py").write_text("1")
            (site / name / "__pycache__" / "m.cpython-310.pyc").write_text("compiled")
        site.joinpath("a").chmod(0o700)
        (site / "b" / "__pycache__" / "m.cpython-310.pyc").chmod(0o600)
        tars.append(bytecode.write_tar(tmp_path / clone, tmp_path / f"{clone}.tar"))
    assert tars[0].read_bytes() == tars[1].read_bytes()
    with tarfile.open(tars[0]) as tar:
        found = {entry.name: entry for entry in tar}
    assert list(found) == [
        f"{SITE}/a/__pycache__",
        f"{SITE}/a/__pycache__/m.cpython-310.pyc",
        f"{SITE}/b/__pycache__",
        f"{SITE}/b/__pycache__/m.cpython-310.pyc",
    ]
    assert {(e.mode, e.isdir()) for e in found.values()} == {(0o755, True), (0o644, False)}
    assert {(e.uid, e.uname, e.gname, e.mtime) for e in found.values()} == {
        (0, "root", "root", SOURCE_DATE_EPOCH)
    }
