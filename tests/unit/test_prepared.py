"""prepared: made by the guest's Python here or left to the guest, and never half of it."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mlflow_image import command, guest_root, layers, prepared
from mlflow_image.command import Completed
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs
from mlflow_image.paths import GUEST_SCRIPTS
from mlflow_image.progress import Step
from mlflow_image.tree import SOURCE_DATE_EPOCH

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]

SITE = "opt/mlflow/lib/python3.10/site-packages"
SHARE = str(prepared.SHARE)
#: What compileall says of a file for another Python.
FOR_ANOTHER = """*** Error compiling '/opt/mlflow/lib/python3.10/site-packages/a/py2.py'...
  File "/opt/mlflow/lib/python3.10/site-packages/a/py2.py", line 1
    print 1
SyntaxError: Missing parentheses in call to 'print'
"""
NO_SPACE = """*** Error compiling '/opt/mlflow/lib/python3.10/site-packages/a/b.py'...
OSError: [Errno 28] No space left on device
"""


def completed(returncode: int, out: str = "", err: str = "") -> Completed:
    return Completed(("compileall",), returncode, out, err, 1.0)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> dict[str, Completed]:
    """A root that is there at once; script -> how it ends. Each leaves a file before that."""
    ends = {"byte-compile.sh": completed(0), "make-database.sh": completed(0)}
    leaves = {
        "byte-compile.sh": f"{SITE}/__pycache__/a.pyc",
        "make-database.sh": f"{SHARE}/empty.sqlite",
    }

    def run(root: Path, words: Iterable[str | Path], **_: object) -> Completed:
        name = Path(list(words)[1]).name
        made = root / leaves[name]
        made.parent.mkdir(parents=True)
        made.write_text("made")
        return ends[name]

    monkeypatch.setattr(guest_root, "unpack_packages", lambda _, root: root.mkdir())
    monkeypatch.setattr(guest_root, "unpack_wheels", lambda *_: None)
    monkeypatch.setattr(guest_root, "run", run)
    return ends


def names(tar: Path) -> list[str]:
    with tarfile.open(tar) as opened:
        return opened.getnames()


def test_bytecode_and_database_travel_in_one_tar_and_the_root_goes(
    guest: dict[str, Completed], make_inputs: MakeInputs, tmp_path: Path, step: Step
) -> None:
    tar = prepared.of_wheels(make_inputs(), tmp_path, step)
    assert tar == tmp_path / "prepared.tar"
    assert names(tar) == [
        f"{SITE}/__pycache__",
        f"{SITE}/__pycache__/a.pyc",
        SHARE,
        f"{SHARE}/empty.sqlite",
    ]
    assert not (tmp_path / "guest-root").exists()


def test_a_database_that_cannot_be_made_here_is_left_to_the_guest_whole(
    guest: dict[str, Completed],
    make_inputs: MakeInputs,
    tmp_path: Path,
    step: Step,
    capsys: pytest.CaptureFixture[str],
) -> None:
    guest["make-database.sh"] = completed(1, "", "Traceback ...\nImportError: libx.so.1\n")
    tar = prepared.of_wheels(make_inputs(), tmp_path, step)
    assert tar
    assert names(tar) == [f"{SITE}/__pycache__", f"{SITE}/__pycache__/a.pyc"]
    said = capsys.readouterr().out
    assert "the empty database is made in the guest: ImportError: libx.so.1\n" in said


@pytest.mark.parametrize("name", ["unpack_packages", "unpack_wheels"])
def test_what_cannot_be_unpacked_is_left_to_the_guest_and_said(
    guest: dict[str, Completed],
    make_inputs: MakeInputs,
    tmp_path: Path,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    def refuse(*_: object) -> None:
        raise Failure("it does not run here")

    monkeypatch.setattr(guest_root, name, refuse)
    assert prepared.of_wheels(make_inputs(), tmp_path, step) is None
    assert "prepared in the guest: it does not run here\n" in capsys.readouterr().out


@pytest.mark.parametrize("done", [completed(0), completed(1, FOR_ANOTHER)])
def test_a_file_for_another_python_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: Completed
) -> None:
    monkeypatch.setattr(guest_root, "run", lambda *_: done)
    prepared.compile_sources("3.10", tmp_path)


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
    monkeypatch.setattr(guest_root, "run", lambda *_: done)
    with pytest.raises(Failure, match=f"ended with exit code {done.returncode}"):
        prepared.compile_sources("3.10", tmp_path)


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


def test_the_database_s_step_is_the_guest_s_own_with_the_same_environment_everywhere(
    monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    python = program("some-python", 'echo "$*"; env | sort')
    script = GUEST_SCRIPTS / "make-database.sh"
    done = command.run(["bash", script, python, "-s"], env={"PAYLOAD": "/where"})
    words, *environment = done.stdout.splitlines()
    assert words == f"-s -s -B /where/prepare/make-empty-database /{SHARE}"
    found = [line.partition("=")[0] for line in environment if not line.startswith("_=")]
    assert [name for name in found if name != "PWD"] == ["HOME", "PATH", "PYTHONHASHSEED"]


def test_the_root_has_the_program_that_makes_the_database(
    guest: dict[str, Completed], tmp_path: Path
) -> None:
    prepared.make_database(tmp_path)
    folder = tmp_path / "run" / "payload" / "prepare"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == set(layers.PREPARE_FILES)


def test_the_tar_has_what_was_made_alone_and_nothing_of_this_host(tmp_path: Path) -> None:
    tars = []
    for clone, names in (("one", ["a", "b"]), ("two", ["b", "a"])):
        site = tmp_path / clone / SITE
        for name in names:
            (site / name / "__pycache__").mkdir(parents=True)
            (site / name / "m.py").write_text("1")
            (site / name / "__pycache__" / "m.cpython-310.pyc").write_text("compiled")
        site.joinpath("a").chmod(0o700)
        (site / "b" / "__pycache__" / "m.cpython-310.pyc").chmod(0o600)
        tars.append(prepared.write_tar(tmp_path / clone, tmp_path / f"{clone}.tar"))
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
