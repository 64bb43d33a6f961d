"""A stock `mlflow server` on this host's loopback, from the image's own locked wheels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import requests
from filelock import FileLock

from mlflow_image import paths

START_S = 120


def environment() -> Path:
    """A Python environment with the wheels of the image's lock for this host's Python.

    MLFLOW_IMAGE_NATIVE names one that exists already; otherwise it is made once per
    lock in the user's cache (about a minute).
    """
    if named := os.environ.get("MLFLOW_IMAGE_NATIVE"):
        return Path(named)
    lock = paths.LOCKS / f"image-{sys.version_info.major}.{sys.version_info.minor}.txt"
    key = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    place = paths.cache() / "native" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / f"{key}.lock"):
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            pip: list[str | Path] = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, "--require-hashes", "-r", lock], check=True)
            (place / "complete").touch()
    return place


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class NativeServer:
    """One server process over a folder that outlives it: `restart` is its reboot."""

    folder: Path
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    def start(self) -> None:
        words = [
            str(environment() / "bin" / "mlflow"),
            *("server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
            *("--artifacts-destination", str(self.artifacts), "--serve-artifacts"),
            *self.arguments,
        ]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **quiet, **self.variables},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/health", timeout=5).ok:
                    return
            time.sleep(0.3)
        log_text = (self.folder / "server.log").read_text(errors="replace")
        raise AssertionError(f"mlflow server did not start:\n{log_text[-3000:]}")

    def stop(self) -> None:
        """End the server and the workers that it started: its own process group, no other."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 15)
            self.process.wait(timeout=30)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()


@contextlib.contextmanager
def running(folder: Path, *arguments: str, **variables: str) -> Iterator[NativeServer]:
    server = NativeServer(folder, arguments, variables)
    try:
        server.start()
        yield server
    finally:
        server.stop()
