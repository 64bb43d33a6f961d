"""Commands as root of a tree, for any user; no process of theirs outlives the call."""

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
    """These tests need a host that `require` accepts."""
    rootless.require()


def test_the_command_runs_as_root() -> None:
    assert rootless.run(["id", "-u"]).stdout == "0\n"


def test_the_command_may_use_chroot() -> None:
    assert rootless.run(["chroot", "/", "id", "-u"]).stdout == "0\n"


def test_exit_code_and_output_are_returned() -> None:
    done = rootless.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_the_command_sees_only_its_own_processes() -> None:
    script = "kill -0 $1 2>/dev/null && echo seen; echo done"
    assert rootless.run(["sh", "-c", script, "sh", str(os.getpid())]).stdout == "done\n"


def test_files_of_any_owner_can_be_made_and_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    script = 'mkdir -p "$1/home" && touch "$1/home/x" && chown -R 33:33 "$1" && chmod 0700 "$1"'
    rootless.run(["sh", "-c", script, "sh", tree])
    owner = rootless.run(["stat", "-c", "%u:%g", tree / "home" / "x"]).stdout
    assert owner == "33:33\n"
    rootless.remove(tree)
    assert not tree.exists()


def test_removing_a_missing_folder_is_not_an_error(tmp_path: Path) -> None:
    rootless.remove(tmp_path / "missing")


def start_sleeper() -> tuple[subprocess.Popen[bytes], int]:
    """Start a command that sleeps for a minute; returns it, and the sleeper's pid on the host."""
    mark = f"60.{os.getpid()}{time.monotonic_ns() % 10**6}"
    process = subprocess.Popen([*rootless.prefix(), "sh", "-c", f"sleep {mark} & wait"])
    until = time.monotonic() + 10
    while time.monotonic() < until:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # newuidmap ends at any time
                if child.cmdline() == ["sleep", mark]:
                    return process, child.pid
        time.sleep(0.02)
    process.kill()
    raise AssertionError("the sleeper did not start")


def test_killing_the_command_ends_all_its_processes() -> None:
    process, sleeper = start_sleeper()
    process.kill()
    process.wait(10)
    assert gone(sleeper)


@ordinary
def test_terminating_the_command_ends_all_its_processes() -> None:
    process, sleeper = start_sleeper()
    process.terminate()
    process.wait(10)
    assert gone(sleeper)


def test_background_processes_end_with_the_command() -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    rootless.run(["sh", "-c", "sleep 60 >/dev/null 2>&1 & exit 0"])
    after = {child.pid for child in psutil.Process().children(recursive=True)}
    assert all(gone(pid) for pid in after - before)


def test_root_needs_no_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert rootless.prefix()[0] == "unshare"
    assert "--kill-child" in rootless.prefix()


def test_an_ordinary_user_gets_a_user_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert rootless.prefix() == [sys.executable, "-m", "mlflow_image.host.namespace"]


def test_a_host_without_newuidmap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refusal, match="newuidmap is missing") as caught:
        rootless.require()
    assert "apt install uidmap" in caught.value.remedy


def test_a_user_who_cannot_make_a_namespace_gets_the_reason(
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
def test_the_users_own_files_belong_to_root_inside(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert rootless.run(["stat", "-c", "%u", tmp_path / "mine"]).stdout == "0\n"


@ordinary
def test_files_of_root_inside_belong_to_the_user_outside(tmp_path: Path) -> None:
    rootless.run(["touch", tmp_path / "made"])
    assert (tmp_path / "made").stat().st_uid == os.getuid()


@ordinary
def test_the_users_range_is_mapped_to_the_ids_from_1() -> None:
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
def test_the_namespace_has_only_the_loopback_interface() -> None:
    heading = 2
    lines = rootless.run(["cat", "/proc/net/dev"]).stdout.splitlines()[heading:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


@ordinary
def test_a_missing_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # With a folder on PATH that the user may not search, the error is "Permission denied".
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = rootless.run(["no-such-program"], check=False)
    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")
