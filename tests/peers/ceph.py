"""Ceph's RADOS Gateway with TLS on a CA of our own: one monitor, one OSD in memory, one gateway.

In Debian: radosgw, ceph-mon, ceph-osd, ceph-common. Needs root or nothing: all runs in a folder.
It refuses boto3's default checksums over TLS, which makes it a good test of ours.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlflow_image.server.local import environment, free_port, own_environment
from tests.peers import process
from tests.peers.authority import Authority
from tests.peers.s3 import ACCESS_KEY, BUCKET, HOST, S3, SECRET_KEY

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool")


def missing() -> str:
    """The programs that are not installed, for a skip's reason."""
    return ", ".join(name for name in PROGRAMS if not shutil.which(name))


@contextmanager
def running(folder: Path, authority: Authority, bucket: str = BUCKET) -> Iterator[S3]:
    """Run it with an empty bucket."""
    folder.mkdir(parents=True)
    port, monitor = free_port(), free_port()
    issued = authority.issue(HOST, "localhost")
    both = folder / "gateway.pem"
    both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    both.chmod(0o600)
    (folder / "ceph.conf").write_text(_conf(folder, port, monitor, both))
    (folder / "keyring").write_text(_keyring())
    (folder / "keyring").chmod(0o600)
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        # The name and the address of the monitor; from mon_host alone it would get another name.
        address = ("--addv", "a", f"[v2:127.0.0.1:{monitor}]")
        fsid = ("--fsid", str(uuid.UUID(int=1)))
        _run(folder, "monmaptool", "--create", *fsid, *address, folder / "monmap")
        files = ("--monmap", folder / "monmap", "--keyring", folder / "keyring")
        _run(folder, "ceph-mon", "--mkfs", "-i", "a", *files)
        stack.enter_context(
            process.running(
                [*_ceph(folder, "ceph-mon"), "-f", "-i", "a"], monitor, folder / "mon.log"
            )
        )
        _run(folder, "ceph", "osd", "new", str(uuid.UUID(int=2)))
        _run(folder, "ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", str(uuid.UUID(int=2)))
        log = folder / "osd.log"
        osd = stack.enter_context(
            process.daemon([*_ceph(folder, "ceph-osd"), "-f", "-i", "0"], log)
        )
        _wait_for_osd(folder, osd)
        stack.enter_context(
            process.running(
                [*_ceph(folder, "radosgw"), "-f", "-n", "client.admin"],
                port,
                folder / "rgw.log",
                start_s=120,
            )
        )
        _run(
            folder,
            *("radosgw-admin", "user", "create", "--uid", "mlflow", "--display-name", "mlflow"),
            *("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY),
        )
        store = S3("https", port, authority.certificate.read_text())
        _make_bucket(store, authority.certificate, bucket)
        yield store


def _make_bucket(store: S3, ca: Path, bucket: str) -> None:
    """With boto3, which the image's environment has."""
    code = (
        "import boto3, sys; from botocore.config import Config; "
        "boto3.client('s3', endpoint_url=sys.argv[1], verify=sys.argv[2], region_name='us-east-1', "
        "config=Config(s3={'addressing_style': 'path'})).create_bucket(Bucket=sys.argv[3])"
    )
    key = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    subprocess.run(
        [environment() / "bin" / "python", "-c", code, store.url, ca, bucket],
        check=True,
        timeout=60,
        env={**own_environment(), **key},
    )


def _conf(folder: Path, port: int, monitor: int, both: Path) -> str:
    return f"""\
[global]
fsid = {uuid.UUID(int=1)}
mon_initial_members = a
mon_host = [v2:127.0.0.1:{monitor}]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {folder}/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file =
log_file = {folder}/$name.ceph.log
ms_bind_ipv6 = false
[mon]
mon_data = {folder}/mon
[mon.a]
public_addr = 127.0.0.1
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_class_dir = /usr/lib/x86_64-linux-gnu/rados-classes
[client.admin]
rgw_frontends = beast ssl_endpoint=127.0.0.1:{port} ssl_certificate={both}
rgw_data = {folder}
"""


def _keyring() -> str:
    """One key for all: it is a cluster of one folder."""
    body = struct.pack("<hiih", 1, int(time.time()), 0, 16) + os.urandom(16)
    key = base64.b64encode(body).decode()
    rights = "".join(f'\tcaps {part} = "allow *"\n' for part in ("mds", "mgr", "mon", "osd"))
    return "".join(
        f"[{name}]\n\tkey = {key}\n{rights}" for name in ("mon.", "client.admin", "osd.0")
    )


def _ceph(folder: Path, program: str) -> list[str]:
    return [program, "-c", str(folder / "ceph.conf")]


def _run(folder: Path, program: str, *words: str | Path, check: bool = True) -> str:
    done = subprocess.run(
        [*_ceph(folder, program), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0 or not check, f"{program}: {done.stderr[-2000:]}"
    return done.stdout


def _wait_for_osd(folder: Path, osd: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while "1 up" not in _run(folder, "ceph", "--connect-timeout", "20", "osd", "stat", check=False):
        assert osd.poll() is None, (folder / "osd.log").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(1)
