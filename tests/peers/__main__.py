"""Runs PostgreSQL behind pgbouncer and an S3 store, both with TLS, until Ctrl-C.

    python -m tests.peers FOLDER

FOLDER gets two settings files: native.yaml for this host (`invoke bench --settings`) and vm.yaml
for a VM of QEMU's user network (`invoke up --settings`, `invoke bench --settings --only boot`).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

from mlflow_image import files
from tests.peers import guest, postgresql, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.postgresql import Postgresql
from tests.peers.s3 import S3

#: This host, for itself and for a VM.
HOSTS = {"native.yaml": "localhost", "vm.yaml": guest.HOST}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch)
        authority = Authority(base / "ca")
        issued = authority.issue(*HOSTS.values())
        with (
            postgresql.running(authority, issued) as database,
            versitygw.running(base / "s3", authority, issued) as store,
        ):
            for name, host in HOSTS.items():
                files.write_private(folder / name, settings(host, database, store))
                print(f"written: {folder / name}", flush=True)
            print("running; Ctrl-C ends it", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()


def settings(host: str, database: Postgresql, store: S3) -> str:
    """A settings file with both stores, reached at this host."""
    ca = textwrap.indent(store.ca, "      ").rstrip()
    return f"""\
schema_version: 1
server: {{workers: 2}}
backend_store:
  postgresql:
    host: {host}
    port: {database.pooled_port}
    database: {database.database}
    user: {postgresql.USER}
    password: "{database.password}"
    ca_certificate: |
{ca}
artifact_store:
  s3:
    bucket: {s3.BUCKET}
    endpoint_url: {store.scheme}://{host}:{store.port}
    region: us-east-1
    access_key_id: "{s3.ACCESS_KEY}"
    secret_access_key: "{s3.SECRET_KEY}"
    ca_certificate: |
{ca}
"""


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    main(Path(sys.argv[1]))
