"""versitygw, a gateway from S3 to folders: its buckets are folders; TLS on a CA of our own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import go_program, process
from tests.peers.authority import Authority, Issued
from tests.peers.s3 import ACCESS_KEY, BUCKET, HOST, S3, SECRET_KEY

MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"


def program() -> Path | None:
    """The program, built if need be; None where it cannot be built."""
    return go_program.built(MODULE)


@contextmanager
def running(
    folder: Path,
    authority: Authority,
    issued: Issued | None = None,
    *,
    tls: bool = True,
    bucket: str = BUCKET,
) -> Iterator[S3]:
    """Run it with an empty bucket."""
    binary = program()
    assert binary is not None
    (folder / "buckets" / bucket).mkdir(parents=True)
    port = free_port()
    words: list[str | Path] = [
        binary,
        *("--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "--quiet"),
    ]
    if tls:
        issued = issued or authority.issue(HOST, "localhost")
        words += ["--cert", issued.certificate, "--key", issued.key]
    scheme = "https" if tls else "http"
    with process.running([*words, "posix", folder / "buckets"], port, folder / "versitygw.log"):
        yield S3(scheme, port, authority.certificate.read_text() if tls else "")
