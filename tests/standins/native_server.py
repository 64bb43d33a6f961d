"""A stock `mlflow server` on this host's loopback, from the image's locked wheels."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import requests

from mlflow_image.server.local import environment, free_port

START_S = 120


@dataclass
class NativeServer:
    """One server whose data stay in a folder; `restart` stands for a reboot."""

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
        """End the server and the workers that it started, which share its process group."""
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
