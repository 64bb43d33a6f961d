"""Fixtures of the unit tests: a cache, small inputs, stand-in programs, a server on loopback."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlflow_image.inputs.anaconda import Decision
from mlflow_image.inputs.apt import Resolution
from mlflow_image.inputs.definition import Definition
from mlflow_image.inputs.gather import Inputs
from mlflow_image.inputs.store import Store
from mlflow_image.inputs.wheels import Wheel
from mlflow_image.paths import HERE, Checkout
from mlflow_image.progress import Step
from tests.unit.samples import package

#: When the apt packages of the small inputs were resolved.
RESOLVED_AT = 1_700_000_000.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that only this test sees."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MLFLOW_IMAGE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def plain_invoke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name tasks as `invoke …`, even if scripts/invoke started the tests."""
    monkeypatch.delenv("MLFLOW_IMAGE_INVOKE", raising=False)


@pytest.fixture
def store(cache: Path) -> Store:
    return Store(cache / "store")


@pytest.fixture
def step() -> Step:
    return Step("testing", None)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Makes a shell script that comes first on PATH: program(name, body) -> its path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, body: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def make_inputs(store: Store) -> Callable[..., Inputs]:
    """Makes small inputs: make_inputs(mlflow="3.18.0", apt={"bash": "5.2"}, disk_mib=8192)."""

    def make(
        *, mlflow: str = "3.17.2", apt: dict[str, str] | None = None, disk_mib: int | str = "auto"
    ) -> Inputs:
        packages = {"bash": "5.1", "linux-image-virtual": "5.15", **(apt or {})}
        return Inputs(
            definition=Definition(disk_mib=disk_mib),
            decision=Decision("system", "asked for", 0, "", "2026-11-21T00:00:00Z"),
            python="3.10",
            packages=Resolution(
                tuple(package(*row) for row in sorted(packages.items())),
                ("deb http://archive.example/ubuntu jammy main",),
                RESOLVED_AT,
            ),
            wheels=(
                Wheel("boto3", "1.40.0", "a" * 64, "boto3-1.40.0-py3-none-any.whl", 10),
                Wheel("mlflow", mlflow, "b" * 64, f"mlflow-{mlflow}-py3-none-any.whl", 20),
            ),
            tools=(Wheel("uv", "0.9.0", "c" * 64, "uv-0.9.0-py3-none-any.whl", 30),),
            store=store,
            installer=None,
            cloud_image=None,
        )

    return make


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A copy of this checkout that a test may change, except for the code."""
    folder = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("image_files", "scripts/guest", "packer", "cloud-init", "plugins"):
        shutil.copytree(HERE.root / name, folder / name, symlinks=True, ignore=ignore)
    (folder / "mlflow_image").symlink_to(HERE.code)
    return Checkout(folder)


@dataclass
class Served:
    """An HTTP server on loopback. files: path -> content. asked: the requested paths."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: Paths whose response ends after half of the content.
    cut_short: set[str] = field(default_factory=set)
    #: Like `cut_short`, for the first response only.
    cut_short_once: set[str] = field(default_factory=set)
    #: Statuses of the first responses, by path; later responses have the file.
    statuses: dict[str, list[int]] = field(default_factory=dict)
    #: Headers of the responses with these statuses.
    headers: dict[str, str] = field(default_factory=dict)
    #: Responses wait for this event, so that a test can have two open requests.
    open: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def served() -> Iterator[Served]:
    content = Served()
    content.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content.asked.append(self.path)
            content.open.wait(10)
            if statuses := content.statuses.get(self.path):
                self.send_response(statuses.pop(0))
                for header in content.headers.items():
                    self.send_header(*header)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content.files.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if body is not None:
                cut = self.path in content.cut_short | content.cut_short_once
                content.cut_short_once.discard(self.path)
                self.wfile.write(body[: len(body) // 2] if cut else body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    content.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield content
    server.shutdown()
    thread.join()
    server.server_close()
