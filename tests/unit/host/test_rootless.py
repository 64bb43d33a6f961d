"""rootless and namespace: root of a tree for whoever builds; nothing of it outlives the call."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mlflow_image.errors import Refusal
from mlflow_image.host import namespace, rootless
from tests.unit.samples import gone

Program = Callable[[str, str], Path]
ordinary = pytest.mark.skipif(
    os.geteuid() == 0, reason="root needs no user namespace; its own prefix is tested instead"
)


@pytest.fixture(autouse=True)
def possible() -> None:
    """Whatever is tested here needs a host that `require` accepts."""
    rootless.require()


def test_the_command_is_root() -> None:
    assert rootless.run(["id", "-u"]).stdout == "0\n"


def test_the_command_may_change_its_root() -> None:
    assert rootless.run(["chroot", "/", "id", "-u"]).stdout == "0\n"


def test_the_command_s_exit_code_and_output_come_back() -> None:
    done = rootless.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_it_sees_its_own_processes_only() -> None:
    script = "kill -0 $1 2>/dev/null && echo seen; echo done"
    assert rootless.run(["sh", "-c", script, "sh", str(os.getpid())]).stdout == "done\n"


def test_files_may_belong_to_anybody_and_go_again(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    script = 'mkdir -p "$1/home" && touch "$1/home/x" && chown -R 33:33 "$1" && chmod 0700 "$1"'
    rootless.run(["sh", "-c", script, "sh", tree])
    said = rootless.run(["stat", "-c", "%u:%g", tree / "home" / "x"]).stdout
    assert said == "33:33\n"
    rootless.remove(tree)
    assert not tree.exists()


def test_what_is_not_there_is_removed_without_a_word(tmp_path: Path) -> None:
    rootless.remove(tmp_path / "missing")


def start_sleeper() -> tuple[subprocess.Popen[bytes], int]:
    """A command in the namespace that would sleep for a minute, and the sleeper's pid here."""
    mark = f"60.{os.getpid()}{time.monotonic_ns() % 10**6}"
    process = subprocess.Popen([*rootless.prefix(), "sh", "-c", f"sleep {mark} & wait"])
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # newuidmap comes and goes
                if child.cmdline() == ["sleep", mark]:
                    return process, child.pid
        time.sleep(0.02)
    process.kill()
    raise AssertionError("the sleeper did not start")


def test_killing_it_ends_everything_that_it_started() -> None:
    process, sleeper = start_sleeper()
    process.kill()
    process.wait(10)
    assert gone(sleeper)


@ordinary
def test_a_polite_request_ends_everything_as_well() -> None:
    process, sleeper = start_sleeper()
    process.terminate()
    process.wait(10)
    assert gone(sleeper)


def test_what_its_command_leaves_behind_ends_with_it() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    rootless.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & exit 0"])
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert all(gone(pid) for pid in after - before)


def test_root_needs_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert rootless.prefix()[0] == "unshare"
    assert "--kill-child" in rootless.prefix()


def test_an_ordinary_user_goes_through_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert rootless.prefix() == [sys.executable, "-m", "mlflow_image.host.namespace"]


def test_a_host_without_newuidmap_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refusal, match="newuidmap is missing") as caught:
        rootless.require()
    assert "apt install uidmap" in caught.value.remedy


def test_a_user_that_may_make_no_namespace_is_told_why(
    monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    program("newuidmap", "exit 0")
    refusing = program("python", "echo '/etc/subuid has no range for me' >&2; exit 125")
    monkeypatch.setattr(sys, "executable", str(refusing))
    with pytest.raises(Refusal, match="/etc/subuid has no range for me") as caught:
        rootless.require()
    assert "usermod --add-subuids" in caught.value.remedy


@ordinary
def test_the_user_s_own_files_are_root_s_inside(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert rootless.run(["stat", "-c", "%u", tmp_path / "mine"]).stdout == "0\n"


@ordinary
def test_root_inside_is_the_user_outside(tmp_path: Path) -> None:
    rootless.run(["touch", tmp_path / "made"])
    assert (tmp_path / "made").stat().st_uid == os.getuid()


@ordinary
def test_the_user_s_range_is_mapped_from_1_on() -> None:
    first, count = namespace.subordinate_range(Path("/etc/subuid"))
    rows = [
        line.split() for line in rootless.run(["cat", "/proc/self/uid_map"]).stdout.splitlines()
    ]
    assert rows == [["0", str(os.getuid()), "1"], ["1", str(first), str(count)]]


@ordinary
def test_sys_can_be_mounted_as_mmdebstrap_does_on_ubuntu_22_04(tmp_path: Path) -> None:
    options = ("-t", "sysfs", "-o", "ro,nosuid,nodev,noexec")
    rootless.run(["mount", *options, "sys", tmp_path])


@ordinary
def test_inside_there_is_no_network() -> None:
    heading = 2
    lines = rootless.run(["cat", "/proc/net/dev"]).stdout.splitlines()[heading:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


@ordinary
def test_a_missing_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder on PATH that the user may not search would make it "Permission denied".
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = rootless.run(["no-such-program"], check=False)
    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")
