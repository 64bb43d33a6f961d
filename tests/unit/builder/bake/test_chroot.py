"""The chroot: the base's packages unpacked on this host, and what a command in it can see."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_image import command
from mlflow_image.builder.bake import chroot
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.inputs.gather import Inputs
from tests.unit.samples import package

MakeInputs = Callable[..., Inputs]
Program = Callable[[str, str], Path]


@pytest.fixture
def debs(make_inputs: MakeInputs, tmp_path: Path) -> Inputs:
    """Inputs whose base has three packages, each with one file in /lib."""
    wanted = make_inputs()
    rows = []
    for name in ("libc6", "linux-image-virtual", "python3"):
        folder, file = tmp_path / name, tmp_path / f"{name}.deb"
        (folder / "DEBIAN").mkdir(parents=True)
        (folder / "DEBIAN").chmod(0o755)  # dpkg-deb requires this mode
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


def test_a_cloud_image_is_refused_because_its_packages_are_unknown(
    make_inputs: MakeInputs, tmp_path: Path
) -> None:
    wanted = replace(make_inputs(), packages=None)
    with pytest.raises(Failure, match="a cloud image has no list of packages"):
        chroot.unpack_packages(wanted, tmp_path / "root")


def test_a_deb_missing_from_the_store_is_named(debs: Inputs, tmp_path: Path) -> None:
    debs.store.path(debs.apt_packages[0].sha256).unlink()
    with pytest.raises(Failure, match=r"libc6=1\.0 \("):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_a_python_that_does_not_run_here_is_refused_with_the_reason(
    debs: Inputs, tmp_path: Path
) -> None:
    rootless.require()
    with pytest.raises(
        Failure, match=r"the guest's Python 3\.10 does not run on this host: chroot: "
    ):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_a_failure_to_unpack_is_reported_with_the_tools_error(
    debs: Inputs, tmp_path: Path, program: Program
) -> None:
    program("dpkg-deb", "echo 'dpkg-deb: unknown compression' >&2; exit 2")
    with pytest.raises(Failure, match="on this host: dpkg-deb: unknown compression"):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_all_packages_except_the_kernel_are_unpacked_into_a_merged_usr(
    debs: Inputs, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with pytest.raises(Failure, match="does not run"):
        chroot.unpack_packages(debs, root)
    assert (root / "lib").is_symlink() and (root / "lib64").is_symlink()
    found = sorted(path.name for path in (root / "usr" / "lib").iterdir())
    assert found == ["libc6", "python3"]
    assert not (root / "data.tar").exists()


def test_a_command_gets_dev_and_proc_but_not_the_callers_environment_or_network(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    rootless.require()
    program("chroot", 'cd "$1" && shift && exec "$@"')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("TMPDIR", "/not/there")
    root = tmp_path / "root"
    script = """echo x > dev/shm/x
    echo x > dev/null
    head -c 1 dev/urandom | wc -c
    stat -f -c %T dev/shm proc
    grep CapEff proc/self/status | cut -f2
    echo x 2> dev/null > proc/self/comm || echo read-only
    chmod 666 dev/null 2> dev/null || echo read-only
    env | cut -d= -f1 | grep -vx -e _ -e PWD -e OLDPWD -e SHLVL | sort
    tail -n +3 proc/self/net/dev | cut -d: -f1"""
    root.mkdir()
    output: list[str] = []
    chroot.stream(root, ["sh", "-c", script], output.append, {"GREETING": "hello"})
    *found, interfaces = " ".join(output).split("PATH ")
    assert "".join(found).split() == [
        *("1", "tmpfs", "proc", "0" * 16, "read-only", "read-only"),
        *("GREETING", "HOME"),
    ]
    assert "lo" in interfaces.split()
    assert not {name for _, name in socket.if_nameindex()} - {"lo"} & set(interfaces.split())
    files = sorted(path for path in root.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["null", "urandom", "zero"]
    assert {path.stat().st_size for path in files} == {0}


def test_a_command_does_not_see_the_processes_of_this_host(
    tmp_path: Path, program: Program
) -> None:
    rootless.require()
    program("chroot", 'cd "$1" && shift && exec "$@"')
    output: list[str] = []
    script = "ls proc | grep -c '^[0-9]'; readlink proc/1/root || echo hidden"
    chroot.stream(tmp_path, ["sh", "-c", script], output.append, {})
    assert int(output[0]) < 10 or (os.geteuid() != 0 and output[1] == "hidden")


def test_the_payload_is_copied_into_the_root_with_its_modes(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    chroot.put_payload({"tool": tool, "wheels/a.whl": tool}, tmp_path / "root")
    there = tmp_path / "root" / "run" / "payload"
    assert os.access(there / "tool", os.X_OK)
    assert (there / "wheels" / "a.whl").stat().st_ino != tool.stat().st_ino
