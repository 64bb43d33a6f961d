"""MinIO without TLS, as seed 004 has it. Upstream no longer maintains it, so keep the pin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import go_program, process
from tests.peers.s3 import ACCESS_KEY, S3, SECRET_KEY

MODULE = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"


def program() -> Path | None:
    """The program, built if need be (150 MB, some minutes); None where it cannot be built."""
    return go_program.built(MODULE)


@contextmanager
def running(folder: Path, bucket: str) -> Iterator[S3]:
    """Run it with an empty bucket, which is a folder that it finds when it starts."""
    binary = program()
    assert binary is not None
    (folder / "data" / bucket).mkdir(parents=True)
    port = free_port()
    variables = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
    words = [binary, "server", folder / "data", "--address", f"127.0.0.1:{port}", "--quiet"]
    with process.running(words, port, folder / "minio.log", variables):
        yield S3("http", port, "")
