"""scripts/invoke: it installs what is missing, and changes nothing if nothing is missing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_image.paths import HERE

REAL = ("bash", "cat", "cut", "dirname", "env", "flock", "rm", "sha256sum", "touch")
LOCK = "a==1\n"


class Host:
    """A copy of the checkout on a host that has only the programs in `bin`."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.bin = folder / "checkout", folder / "bin"
        (self.checkout / "scripts" / "host").mkdir(parents=True)
        (self.checkout / "locks").mkdir()
        self.bin.mkdir()
        shutil.copy(HERE.root / "scripts" / "invoke", self.checkout / "scripts")
        (self.checkout / "locks" / "host.txt").write_text(LOCK)
        self.needs("")
        for name in REAL:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.has("python3", f'exec {sys.executable} "$@"')
        self.has("uname", "case $1 in -s) echo Linux ;; *) echo x86_64 ;; esac")
        self.has("id", "echo 1000")

    def has(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def needs(self, rows: str) -> None:
        (self.checkout / "scripts" / "host" / "packages.txt").write_text(rows)

    def has_environment(self) -> None:
        venv = self.checkout / ".venv"
        (venv / "bin").mkdir(parents=True)
        version = " ".join(map(str, sys.version_info[:3]))
        known = hashlib.sha256(LOCK.encode()).hexdigest()
        (venv / ".made-from").write_text(f"{known} {sys.executable} {version}")
        (venv / "bin" / "invoke").write_text('#!/bin/sh\necho "$MLFLOW_IMAGE_INVOKE $*"\n')
        (venv / "bin" / "invoke").chmod(0o755)

    def run(self, *words: str, activated: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "bash", self.checkout / "scripts" / "invoke", *words],
            env={"PATH": f"{activated}{self.bin}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_another_system_gets_one_clear_line(host: Host) -> None:
    host.has("uname", "case $1 in -s) echo Darwin ;; *) echo arm64 ;; esac")
    done = host.run("--list")
    assert done.returncode == 2
    assert done.stderr == (
        "error: this host is Darwin arm64; mlflow-image builds on Linux x86_64 only\n"
    )


def test_without_a_supported_python_it_names_the_supported_versions(host: Host) -> None:
    host.has("python3", "exit 1")
    for name in ("python3.13", "python3.12", "python3.11", "python3.10"):
        host.has(name, "exit 1")
    script = host.checkout / "scripts" / "invoke"
    script.write_text(script.read_text().replace("/usr/bin/python3", "/no/python3"))
    done = host.run("--list")
    assert done.returncode == 2
    assert "found no Python 3.10 to 3.13" in done.stderr
    assert "MLFLOW_IMAGE_PYTHON" in done.stderr


def test_without_apt_it_names_the_packages_to_install(host: Host) -> None:
    host.needs("no-such-program its-package makes disks\nany:bash,other shell runs scripts\n")
    done = host.run("--list")
    assert done.returncode == 2
    assert "  its-package: makes disks\n" in done.stderr
    assert done.stderr.endswith(
        "install the packages above with its own package manager: its-package\n"
    )
    assert not (host.checkout / ".venv").exists()


def test_a_user_without_root_gets_the_command_to_run_as_root(host: Host) -> None:
    host.needs("no-such-program its-package makes disks\n")
    host.has("apt-get", "echo apt-get was called; exit 1")
    done = host.run("--list")
    assert done.returncode == 2
    assert "apt-get install --no-install-recommends its-package\n" in done.stderr
    assert "was called" not in done.stderr


def test_packages_that_apt_cannot_install_are_named_with_a_remedy(host: Host) -> None:
    host.needs("no-such-program its-package makes disks\n")
    host.has("id", "echo 0")
    host.has("apt-get", 'case "$*" in *install*) echo "E: no network" >&2; exit 100 ;; esac')
    done = host.run("--list")
    assert done.returncode == 2
    assert "E: no network\n" in done.stderr
    assert done.stderr.endswith("or install them by hand: its-package\n")


def test_packages_are_listed_with_their_reason_before_apt_installs_them(host: Host) -> None:
    host.needs("no-such-program its-package makes disks\n")
    host.has_environment()
    host.has("id", "echo 0")
    host.has("apt-get", 'echo "apt-get $*"')
    done = host.run("--list")
    assert done.returncode == 0, done.stderr
    printed = done.stderr.splitlines()
    assert printed[:3] == [
        "missing on this host:",
        "  its-package: makes disks",
        "installing them with apt-get",
    ]
    assert printed[-1] == "apt-get -q install -y --no-install-recommends its-package"


def test_a_second_call_installs_nothing_and_passes_its_arguments_on(host: Host) -> None:
    host.needs("bash shell runs scripts\n")
    host.has_environment()
    host.has("apt-get", "echo apt-get was called; exit 1")
    done = host.run("up", "--name", "a b")
    assert (done.returncode, done.stderr) == (0, "")
    typed = host.checkout / "scripts" / "invoke"
    assert done.stdout == f"{typed} --search-root {host.checkout} up --name a b\n"


def test_an_activated_environment_is_not_taken_for_the_python_that_creates_it(host: Host) -> None:
    host.has_environment()
    bin_folder = host.checkout / ".venv" / "bin"
    (bin_folder / "python3").write_text("#!/bin/sh\nexit 1\n")
    (bin_folder / "python3").chmod(0o755)
    done = host.run("--list", activated=f"{bin_folder}:")
    assert done.returncode == 0, done.stderr
    assert "creating .venv" not in done.stderr


def test_a_checkout_that_is_not_writable_is_refused_with_what_to_do(host: Host) -> None:
    (host.checkout / ".venv.lock").mkdir()  # not writable as a file, for root too
    done = host.run("--list")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: this user cannot write to {host.checkout}, where .venv is created; "
        "clone the repository into a folder of your own\n"
    )
