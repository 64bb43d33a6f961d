"""One real image for all scenarios, built offline from an empty layer cache."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlflow_image import paths
from mlflow_image.host import processes, rootless
from mlflow_image.inputs import anaconda

CHECKOUT = Path(__file__).resolve().parents[2]

#: A host name in this host's network settings; it must not appear in the image.
HOST_CANARY = "canary-of-the-host"

#: What a build prints when /opt/mlflow is built on the host.
BUILT_ON_HOST = "   - packing /opt/mlflow on this host ("

#: Runs a program with only the loopback interface: no route, no name server.
ONLY_LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Tasks:
    """Runs `invoke` in this checkout, with a separate cache."""

    environment: dict[str, str]

    def __call__(
        self,
        *words: str,
        no_network: bool = False,
        timeout_s: float = 2700,
        variables: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a task and capture its output. no_network: only loopback, if run by root."""
        argv = [sys.executable, "-m", "invoke", *words]
        if no_network and os.geteuid() == 0:
            argv = ["unshare", "--net", "--", sys.executable, "-c", ONLY_LOOPBACK, *argv]
        return subprocess.run(
            argv,
            cwd=CHECKOUT,
            env={**os.environ, **self.environment, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def in_guest(self, name: str, line: str, timeout_s: float = 400) -> str:
        """Run a shell line in a VM; returns standard output and errors."""
        done = self("ssh", "--name", name, "--command", line, timeout_s=timeout_s)
        return done.stdout + done.stderr

    def apply(self, name: str, text: str) -> str:
        """Write these settings in a VM and apply them; returns what is shown, and the exit code.

        Encoded, because arguments must not show them.
        """
        encoded = base64.b64encode(text.encode()).decode()
        write = f"echo {encoded} | base64 -d | sudo tee /etc/mlflow/settings.yaml > /dev/null"
        return self.in_guest(name, f"{write}; sudo mlflow-configure --apply; echo code $?")

    @contextlib.contextmanager
    def vm(self, name: str, *words: str) -> Iterator[subprocess.CompletedProcess[str]]:
        """What `up` printed for a VM, which is removed afterwards."""
        done = self("up", "--name", name, *words)
        try:
            assert done.returncode == 0, done.stdout + done.stderr
            yield done
        finally:
            self("down", "--name", name)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a task with stdout and stderr in one pipe."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "invoke", *words],
            cwd=CHECKOUT,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=heed_ctrl_c,
        )


def url_of(up: subprocess.CompletedProcess[str]) -> str:
    """The address that `up` printed for clients."""
    assert up.returncode == 0, up.stdout + up.stderr
    return up.stdout.split("export MLFLOW_TRACKING_URI=")[1].splitlines()[0].strip()


def heed_ctrl_c() -> None:
    """Let SIGINT end the child: a background shell makes its children ignore it.

    Source: POSIX, Shell Command Language, 2.11.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def verified_manifest(image: Path, output: str) -> dict[str, Any]:
    """The manifest of a verified image; `took` has the seconds of the layers of this build.

    The manifest's own times may be older: an existing image with the same bytes keeps them.
    """
    manifest = json.loads((image / "manifest.json").read_text())
    assert manifest["verification"]["result"] == "passed"
    steps = re.findall(r"^ok (\S+): .*\(([\d.]+) s\)$", output, re.MULTILINE)
    took = {name: float(seconds) for name, seconds in steps if name in manifest["seconds"]}
    assert took
    return {**manifest, "took": took}


def record_times(manifest: dict[str, Any], record_property: Callable[..., None]) -> None:
    """Record how long each layer took, and the size of the disk, as the test's figure."""
    took, size = manifest["took"], manifest["disk"]["bytes"] / 1e6
    layers = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items())
    record_property("figure", f"{layers}; {size:.0f} MB")


@pytest.fixture(scope="session")
def tasks() -> Iterator[Tasks]:
    """Tasks with an empty layer cache and the user's fetched inputs; removed at the end."""
    caches = paths.cache() / "test-caches"
    caches.mkdir(parents=True, exist_ok=True)
    for left in filter(processes.was_abandoned, caches.iterdir()):  # by a run that was killed
        rootless.remove(left)
    cold = caches / secrets.token_hex(4)  # another checkout may run its tests, too
    processes.make_owned_folder(cold)
    for shared in ("store", "apt", "packer"):
        (paths.cache() / shared).mkdir(parents=True, exist_ok=True)
        (cold / shared).symlink_to(paths.cache() / shared)
    with restored():
        yield Tasks(
            {
                "MLFLOW_IMAGE_CACHE": str(cold),
                "MLFLOW_IMAGE_INVOKE": "scripts/invoke",
                "PYTHONUNBUFFERED": "1",
            }
        )
    rootless.remove(cold)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore the user's latest image and recorded decisions afterwards."""
    latest, decided = CHECKOUT / "dist" / "latest", anaconda.record_file()
    link = latest.readlink() if latest.is_symlink() else None
    decision = decided.read_bytes() if decided.is_file() else None
    yield
    if link is not None:
        latest.unlink(missing_ok=True)
        latest.symlink_to(link)
    if decision is not None:
        decided.write_bytes(decision)
    else:
        decided.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def fetched(tasks: Tasks) -> None:
    """Fetch everything that a build needs into the store."""
    done = tasks("fetch", "--python", "system")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def build(tasks: Tasks, fetched: None) -> subprocess.CompletedProcess[str]:
    """The build of this test run, on a host with its own mirror, proxy and package index."""
    host = {
        "INVOKE_APT_MIRROR": f"http://{HOST_CANARY}.invalid/mirror",
        "http_proxy": f"http://{HOST_CANARY}.invalid:3128",
        "PIP_INDEX_URL": f"http://{HOST_CANARY}.invalid/simple",
        "UV_DEFAULT_INDEX": f"http://{HOST_CANARY}.invalid/simple",
        "GRUB_DISABLE_RECOVERY": "true",  # would change the boot menu
    }
    return tasks("build-image", "--offline", "--python", "system", no_network=True, variables=host)


@pytest.fixture(scope="session")
def image(build: subprocess.CompletedProcess[str]) -> Path:
    """The image's folder in dist/."""
    assert build.returncode == 0, build.stdout[-6000:] + build.stderr[-6000:]
    return (CHECKOUT / "dist" / "latest").resolve()


@pytest.fixture
def until() -> Callable[..., str]:
    """Read a started task's output until a text appears; returns what was read."""

    def read(process: subprocess.Popen[str], text: str) -> str:
        seen = ""
        assert process.stdout is not None
        for line in process.stdout:
            seen += line
            if text in line:
                return seen
        raise AssertionError(f"{text!r} is not in the output:\n{seen}")

    return read
