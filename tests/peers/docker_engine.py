"""A Docker engine and a registry of a test: on loopback, without networks of containers.

Both run in namespaces of their own, which take all their processes and mounts along when they end.
Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import process

CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
#: What the programs write outside of their own folder is not written to the host.
PRIVATE = """
mount --make-rslave / && mount --make-rshared /
mkdir -p /run/containerd
for place in /run/containerd /var/lib /var/log; do mount -t tmpfs tmpfs "$place"; done
exec "$@"
"""
#: Containers use the host's network, so that nothing of the host's own has to change.
NO_NETWORKS = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
)


@dataclass(frozen=True)
class Docker:
    """socket: of the engine. registry: host and port; its data are below `folder`."""

    folder: Path
    socket: Path
    registry: str

    @property
    def variables(self) -> dict[str, str]:
        """For programs that use this engine."""
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def blobs(self) -> list[Path]:
        """The layers that the registry has received."""
        files = (self.folder / "registry").rglob("data")
        return [file for file in files if file.open("rb").read(2) == b"\x1f\x8b"]

    def __call__(self, *words: object, text: str = "") -> str:
        """Run `docker`; returns what it prints."""
        done = subprocess.run(
            ["docker", *map(str, words)],
            env={**os.environ, **self.variables},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()


def lacks() -> str:
    """What keeps this host from running it, or ""."""
    if os.geteuid() != 0:
        return "a container engine needs root"
    missing = [one for one in ("dockerd", "docker", "docker-registry") if not shutil.which(one)]
    return f"{', '.join(missing)} not installed" if missing else ""


@contextmanager
def running(folder: Path) -> Iterator[Docker]:
    """Run the engine and an empty registry, with all their data below the folder."""
    port = free_port()
    with _registry(folder, port), _engine(folder) as socket:
        yield Docker(folder, socket, f"127.0.0.1:{port}")


@contextmanager
def contained(words: Sequence[object], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program whose own processes and mounts end with it, whatever it leaves behind."""
    with process.daemon([*CONTAINED, "sh", "-ec", PRIVATE, "sh", *words], log) as daemon:
        try:
            yield daemon
        finally:
            daemon.kill()  # unshare ignores SIGTERM


@contextmanager
def _registry(folder: Path, port: int) -> Iterator[None]:
    settings = folder / "registry.yaml"
    settings.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: of-this-test}}\n"
    )
    with process.running(["docker-registry", "serve", settings], port, folder / "registry.log"):
        yield


@contextmanager
def _engine(folder: Path) -> Iterator[Path]:
    socket = folder / "docker.sock"
    words: Sequence[object] = (
        "dockerd",
        *("--data-root", folder / "docker", "--exec-root", folder / "docker-exec"),
        *("--pidfile", folder / "docker.pid", "--host", f"unix://{socket}"),
        *NO_NETWORKS,
    )
    with contained(words, folder / "docker.log") as daemon:
        process.until(lambda: _answers(socket), daemon, folder / "docker.log")
        yield socket


def _answers(socket: Path) -> bool:
    words = ("docker", "--host", f"unix://{socket}", "version")
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
