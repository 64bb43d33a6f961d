"""Serves the stand-in installer on the loopback and writes pins that name it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import yaml

from mlflow_image.files import hash_file

from . import anaconda_installer

TERMS = "This is a stand-in for tests; it is no distribution."


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without logging."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def pinned(folder: Path, python: str, distribution: str = "anaconda") -> Iterator[Path]:
    """Serve the installer and yield a file of pins for MLFLOW_IMAGE_INSTALLERS.

    distribution: which one the stand-in stands for. python: the version in the stand-in's package
    cache, which must be that of the guest.
    """
    installer = anaconda_installer.make(folder)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pins = folder / "installers.yaml"
    pins.write_text(
        yaml.safe_dump(
            {
                distribution: {
                    "version": "standin",
                    "python": python,
                    "file": installer.name,
                    "url": f"http://127.0.0.1:{server.server_address[1]}/{installer.name}",
                    "sha256": hash_file(installer),
                    "size_bytes": installer.stat().st_size,
                    "installed_bytes": 80_000_000,
                    "terms": TERMS,
                }
            }
        )
    )
    try:
        yield pins
    finally:
        server.shutdown()
        server.server_close()
