"""/opt/mlflow is made completely on this host, or completely in a VM."""

from __future__ import annotations

import errno
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.builder.bake import chroot, on_host, steps
from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.builder.place import Place
from mlflow_image.errors import Failure
from mlflow_image.inputs.gather import Inputs
from mlflow_image.paths import HERE

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]

ENVIRONMENT = "opt/mlflow"


class Guest:
    """A stand-in for the chroot: its script makes one file, then raises `fails` if set."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.words: list[str] = []
        self.variables: dict[str, str] = {}
        self.payload: list[str] = []

    def stream(
        self,
        root: Path,
        words: list[str],
        on_line: Callable[[str], None],
        variables: dict[str, str],
    ) -> None:
        self.words, self.variables = words, variables
        there = root / "run" / "payload"
        self.payload = sorted(path.name for path in there.iterdir()) if there.exists() else []
        (root / ENVIRONMENT / "bin").mkdir(parents=True)
        (root / ENVIRONMENT / "bin" / "python").symlink_to("/usr/bin/python3")
        on_line(":: installing 3 wheels")
        on_line("something else")
        if self.fails:
            raise self.fails


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    found = Guest()
    monkeypatch.setattr(chroot, "unpack_packages", lambda _, root: root.mkdir())
    monkeypatch.setattr(chroot, "stream", found.stream)
    return found


def test_the_environment_is_returned_as_a_tar_and_the_chroot_is_removed(
    guest: Guest, make_inputs: MakeInputs, place: Place
) -> None:
    tar = on_host.environment(make_inputs(), {}, place)
    assert tar == place.work / "opt-mlflow.tar"
    with tarfile.open(tar) as opened:
        names = opened.getnames()
    assert names == [ENVIRONMENT, f"{ENVIRONMENT}/bin", f"{ENVIRONMENT}/bin/python"]
    assert not (place.work / "guest-root").exists()


def test_the_guests_own_script_is_run_and_its_progress_is_shown(
    guest: Guest, make_inputs: MakeInputs, place: Place
) -> None:
    script = HERE.guest_scripts / steps.ENVIRONMENT_SCRIPT
    on_host.environment(make_inputs(), {script.name: script}, place)
    assert guest.payload == ["environment.sh"]
    assert guest.words == ["/bin/bash", "/run/payload/environment.sh"]
    assert guest.variables == {"PAYLOAD": "/run/payload", "PYTHON_DISTRIBUTION": "system"}
    assert "installing 3 wheels, on this host" in [title for title, _ in place.step.phases]


def test_a_failing_script_falls_back_to_a_vm_and_the_reason_is_printed(
    guest: Guest,
    make_inputs: MakeInputs,
    place: Place,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shell = "`sh -c 'set -eu\nroot=$1\n' ended with exit code 1`"
    guest.fails = Failure(shell, evidence="a\nImportError: libx.so.1")
    assert on_host.environment(make_inputs(), {}, place) is None
    output = capsys.readouterr().out
    assert "made in a VM, because the chroot failed: environment.sh failed on this host: " in output
    assert "ImportError: libx.so.1\n" in output
    assert list(place.work.iterdir()) == [place.result]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Failure("environment.sh failed", evidence="uv: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_of_the_host_does_not_fall_back_to_a_vm(
    guest: Guest, make_inputs: MakeInputs, place: Place, error: Exception
) -> None:
    guest.fails = error
    with pytest.raises(type(error)):
        on_host.environment(make_inputs(), {}, place)
    assert list(place.work.iterdir()) == [place.result]


@pytest.mark.parametrize(
    ("step_name", "error", "reason"),
    [
        ("unpack_packages", Failure("it does not run here"), "it does not run here"),
        (
            "put_payload",
            OSError(errno.EACCES, "Permission denied"),
            "[Errno 13] Permission denied",
        ),
    ],
)
def test_a_failure_before_the_script_falls_back_to_a_vm_and_leaves_no_files(
    guest: Guest,
    make_inputs: MakeInputs,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step_name: str,
    error: Exception,
    reason: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(chroot, step_name, fail)
    assert on_host.environment(make_inputs(), {}, place) is None
    assert (
        f"/opt/mlflow will be made in a VM, because the chroot failed: {reason}\n"
        in capsys.readouterr().out
    )
    assert list(place.work.iterdir()) == [place.result]


@pytest.fixture
def script(tmp_path: Path, program: Program) -> Callable[[str], tuple[int, list[str], str]]:
    """Runs environment.sh with stand-in programs that record their calls.

    script(shell code to run as compileall) -> (exit code, calls, standard error).
    """
    payload, calls = tmp_path / "payload", tmp_path / "calls"
    payload.mkdir()
    (payload / "requirements.txt").write_text("a==1\nb==2\n")
    text = (HERE.guest_scripts / steps.ENVIRONMENT_SCRIPT).read_text()
    home = tmp_path / "opt-mlflow"
    (home / "bin").mkdir(parents=True)
    site = home / "lib" / "a-1.dist-info"
    site.mkdir(parents=True)
    (site / "uv_cache.json").write_text("{}")
    (home / ".lock").touch(0o666)
    for name in ("a", "b", "tests/c"):
        (home / "lib" / name).parent.mkdir(exist_ok=True)
        (home / "lib" / f"{name}.py").touch()
    (site / "RECORD").write_text("a.py,,\na-1.dist-info/uv_cache.json,sha256=x,2\n")

    def run(compileall: str) -> tuple[int, list[str], str]:
        record = f'#!/bin/sh\necho "$*" >> {calls}\nenv | grep -v ^_= | sort >> {calls}\n'
        for path, body in (
            (payload / "uv", ""),
            (home / "bin" / "python", f'case "$*" in *compileall*) {compileall} ;; esac'),
            (tmp_path / "system-python", ""),
        ):
            path.write_text(f"{record}{body}\n")
            path.chmod(0o755)
        adapted = text.replace("/opt/mlflow", str(home))
        adapted = adapted.replace("/usr/bin/python3", str(tmp_path / "system-python"))
        variables = {"PAYLOAD": str(payload), "PYTHON_DISTRIBUTION": "system"}
        done = command.run(["bash", "-c", adapted], env=variables, check=False)
        return done.returncode, calls.read_text().splitlines(), done.stderr

    return run


FOR_ANOTHER = "*** Error compiling py2.py...\\nSyntaxError: Missing parentheses"


def test_the_script_runs_with_a_clean_environment(
    script: Callable[[str], tuple[int, list[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONOPTIMIZE", "UV_INDEX_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "2")
    code, calls, _ = script("true")
    assert code == 0
    variables = {line.partition("=")[0] for line in calls if line.partition("=")[0].isupper()}
    assert variables - {"PWD", "SHLVL", "OLDPWD"} == {
        *("HOME", "PATH", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE")
    }
    assert sum("--require-hashes" in line for line in calls) == 1
    compiling = [line for line in calls if "--invalidation-mode unchecked-hash" in line]
    assert len(compiling) == 2, "one process for each list, none for an empty one"
    assert not [line for line in compiling if " -j" in line]


def test_the_cache_records_and_the_lock_file_of_uv_are_removed(
    script: Callable[[str], tuple[int, list[str], str]], tmp_path: Path
) -> None:
    assert script("true")[0] == 0
    site = tmp_path / "opt-mlflow" / "lib" / "a-1.dist-info"
    assert [path.name for path in site.iterdir()] == ["RECORD"]
    assert not (tmp_path / "opt-mlflow" / ".lock").exists()
    assert (site / "RECORD").read_text() == "a.py,,\n"


def test_files_for_another_python_do_not_fail_the_byte_compilation(
    script: Callable[[str], tuple[int, list[str], str]],
) -> None:
    assert script(f"printf '{FOR_ANOTHER}'; exit 1")[0] == 0


@pytest.mark.parametrize(
    "compileall",
    [
        "echo nothing; exit 1",
        "exit 137",
        f"printf '{FOR_ANOTHER}'; exit 137",
        f"printf '{FOR_ANOTHER}\\nOSError: [Errno 28] No space left'; exit 1",
        f"printf '{FOR_ANOTHER}\\nTraceback (most recent call last):\\nBrokenProcessPool'; exit 1",
    ],
)
def test_an_incomplete_byte_compilation_fails_with_its_exit_code(
    script: Callable[[str], tuple[int, list[str], str]], compileall: str
) -> None:
    code, calls, errors = script(compileall)
    assert code == 1
    assert not any("make-empty-database" in line for line in calls)
    assert errors.startswith(f"byte-compiling ended with exit code {compileall.split()[-1]}\n")


def test_the_tar_does_not_depend_on_the_modes_order_and_owners_of_this_host(tmp_path: Path) -> None:
    tars = []
    for clone, names in (("one", ["a", "b"]), ("two", ["b", "a"])):
        top = tmp_path / clone / ENVIRONMENT
        for name in names:
            (top / name).mkdir(parents=True)
            (top / name / "m.py").write_text("1")
        (top / "link").symlink_to("a")
        (top / "a").chmod(0o700)
        (top / "b" / "m.py").chmod(0o600 if clone == "one" else 0o664)
        (top / "a" / "m.py").chmod(0o775)
        tars.append(on_host.write_tar(tmp_path / clone, tmp_path / f"{clone}.tar"))
    assert tars[0].read_bytes() == tars[1].read_bytes()
    with tarfile.open(tars[0]) as tar:
        found = {str(Path(entry.name).relative_to(ENVIRONMENT)): entry for entry in tar}
    modes = {name: entry.mode for name, entry in found.items()}
    executable = dict.fromkeys((".", "a", "b", "a/m.py"), 0o755)
    assert {**modes, "link": 0} == {**executable, "b/m.py": 0o644, "link": 0}
    assert found["link"].linkname == "a"
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in found.values()} == {
        (0, 0, "root", "root", SOURCE_DATE_EPOCH)
    }
