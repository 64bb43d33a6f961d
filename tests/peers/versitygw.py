"""versitygw, a gateway from S3 to folders, built from the Go module proxy once and kept.

Its buckets are folders; TLS on a CA of our own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from mlflow_image.paths import cache
from mlflow_image.server.local import free_port
from tests.peers import process
from tests.peers.authority import Authority
from tests.peers.s3 import ACCESS_KEY, BUCKET, HOST, S3, SECRET_KEY

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
BUILD_S = 900


def program() -> Path | None:
    """The program, built if need be; None where it cannot be built."""
    place = cache() / "peers" / MODULE.rpartition("@")[2] / "versitygw"
    if not place.exists():
        if not shutil.which("go"):
            return None
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / "lock"):
            variables = {**os.environ, "GOBIN": str(place.parent)}
            done = subprocess.run(
                ["go", "install", MODULE],
                env=variables,
                capture_output=True,
                timeout=BUILD_S,
                check=False,
            )
            if done.returncode != 0:
                return None
    return place


@contextmanager
def running(folder: Path, authority: Authority, *, tls: bool = True) -> Iterator[S3]:
    """Run it with an empty bucket BUCKET."""
    binary = program()
    assert binary is not None
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    port = free_port()
    words: list[str | Path] = [
        binary,
        *("--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "--quiet"),
    ]
    if tls:
        issued = authority.issue(HOST, "localhost")
        words += ["--cert", issued.certificate, "--key", issued.key]
    scheme = "https" if tls else "http"
    with process.running([*words, "posix", folder / "buckets"], port, folder / "versitygw.log"):
        yield S3(scheme, port, authority.certificate.read_text() if tls else "")
