"""guest_root: all of the base as the guest has it, or a reason why not."""

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
        (folder / "DEBIAN").chmod(0o755)  # dpkg-deb insists, whatever the umask
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
    with pytest.raises(Failure, match="a cloud image has no list of packages"):
        chroot.unpack_packages(wanted, tmp_path / "root")


def test_a_deb_that_the_store_lost_is_named(debs: Inputs, tmp_path: Path) -> None:
    debs.store.path(debs.apt_packages[0].sha256).unlink()
    with pytest.raises(Failure, match=r"libc6=1\.0 \("):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_a_root_that_does_not_run_here_is_refused_with_its_reason(
    debs: Inputs, tmp_path: Path
) -> None:
    rootless.require()
    with pytest.raises(
        Failure, match=r"the guest's Python 3\.10 does not run on this host: chroot: "
    ):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_a_host_that_cannot_unpack_says_so(debs: Inputs, tmp_path: Path, program: Program) -> None:
    program("dpkg-deb", "echo 'dpkg-deb: unknown compression' >&2; exit 2")
    with pytest.raises(Failure, match="on this host: dpkg-deb: unknown compression"):
        chroot.unpack_packages(debs, tmp_path / "root")


def test_packages_of_merged_and_of_other_systems_meet_in_one_root_without_a_kernel(
    debs: Inputs, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with pytest.raises(Failure, match="does not run"):
        chroot.unpack_packages(debs, root)
    assert (root / "lib").is_symlink() and (root / "lib64").is_symlink()
    found = sorted(path.name for path in (root / "usr" / "lib").iterdir())
    assert found == ["libc6", "python3"]
    assert not (root / "data.tar").exists()


def test_a_command_has_its_surroundings_and_nothing_of_the_caller_s(
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
    said: list[str] = []
    chroot.stream(root, ["sh", "-c", script], said.append, {"GREETING": "hello"})
    *found, interfaces = " ".join(said).split("PATH ")
    assert "".join(found).split() == [
        *("1", "tmpfs", "proc", "0" * 16, "read-only", "read-only"),
        *("GREETING", "HOME"),
    ]
    assert "lo" in interfaces.split()
    assert not {name for _, name in socket.if_nameindex()} - {"lo"} & set(interfaces.split())
    files = sorted(path for path in root.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["null", "urandom", "zero"]
    assert {path.stat().st_size for path in files} == {0}


def test_a_command_sees_no_process_of_this_host(tmp_path: Path, program: Program) -> None:
    rootless.require()
    program("chroot", 'cd "$1" && shift && exec "$@"')
    said: list[str] = []
    script = "ls proc | grep -c '^[0-9]'; readlink proc/1/root || echo hidden"
    chroot.stream(tmp_path, ["sh", "-c", script], said.append, {})
    assert int(said[0]) < 10 or (os.geteuid() != 0 and said[1] == "hidden")


def test_the_root_has_copies_of_the_disc_s_files_with_their_modes(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    chroot.put_payload({"tool": tool, "wheels/a.whl": tool}, tmp_path / "root")
    there = tmp_path / "root" / "run" / "payload"
    assert os.access(there / "tool", os.X_OK)
    assert (there / "wheels" / "a.whl").stat().st_ino != tool.stat().st_ino
