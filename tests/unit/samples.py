"""Sample objects for several unit tests: packages, layers, a manifest, a Packer build."""

from __future__ import annotations

import json
import struct
import time
from base64 import b64encode
from pathlib import Path

import psutil

from mlflow_image.builder.bake.packer import Packer
from mlflow_image.builder.bake.template import PackerBuild
from mlflow_image.builder.keys import NAMES as LAYER_NAMES
from mlflow_image.builder.layers import RECORD_NAME, Layer
from mlflow_image.images.manifest import Disk, ImageId, Manifest, Python, Verification
from mlflow_image.images.provenance import UNKNOWN
from mlflow_image.inputs.apt import Package

NAMES = list(LAYER_NAMES)
UNIT = "image_files/usr/lib/systemd/system/mlflow-tracking.service"
PACKER = Packer(Path("/packer"), (1, 6, 6), "a test")
IMAGE = ImageId("mlflow", "ubuntu-22.04", "f" * 12)
BUILD = PackerBuild(
    vm_name="disk.qcow2",
    output="/cache/work/output",
    overlay="/cache/work/overlay.qcow2",
    key="/cache/work/id_ed25519",
    qemu_args=(
        ("-accel", "tcg,thread=multi"),
        ("-netdev", "user,id=user.0,restrict=on,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"),
    ),
    scripts=("/checkout/scripts/guest/10-python.sh", "/checkout/scripts/guest/20-files.sh"),
    environment=("PAYLOAD=/run/payload", 'ODD=a "quoted" ${value} %{if}'),
    shutdown_command="systemctl poweroff",
    ssh_timeout="15m",
    mounts=("mkdir -p /run/payload", "mount -o ro LABEL=cidata /run/payload"),
)


def package(name: str, version: str = "1.0", sha256: str = "") -> Package:
    """A small package of an apt archive."""
    found = sha256 or f"{abs(hash((name, version))):064x}"[-64:]
    return Package(name, version, "amd64", found, 1000, f"Package: {name}\nVersion: {version}")


def built(stack: list[Layer], seconds: float = 60.0) -> list[Layer]:
    """Put records of these layers into the cache, as a build does; returns the layers."""
    for layer in stack:
        layer.directory.mkdir(parents=True, exist_ok=True)
        record = layer.record(seconds, [("a phase", seconds)])
        (layer.directory / RECORD_NAME).write_text(json.dumps(record))
    return stack


def manifest(image: ImageId = IMAGE, verification: Verification | None = None) -> Manifest:
    """A valid manifest."""
    return Manifest(
        definition={"name": image.name, "os": image.os},
        os=image.os,
        login="ubuntu",
        kernel=("5.15",),
        python=Python("system", "3.10", ""),
        mlflow="3.17.2",
        packages={"mlflow": "3.17.2"},
        settings_schema_version=1,
        image=image,
        built_at="2026-11-21T00:00:00Z",
        python_reason="requested",
        git=UNKNOWN,
        built_with={"packer": "1.6.6"},
        keys={"base": "a" * 64},
        seconds={"base": {"total": 60.0, "phases": [["a phase", 60.0]]}},
        disk=Disk("qcow2", 4, 4096, image.build.ljust(64, "0")),
        inputs={"apt": {"bash=5.1": "b" * 64}},
        verification=verification or Verification(),
    )


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends within some seconds; a zombie has ended."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


KEYTAB_PRINCIPAL = "mlflow@EXAMPLE.COM"


def keytab(*principals: str, key: bytes = b"k" * 32) -> bytes:
    """A keytab with a key for each NAME@REALM (MIT, "The Kerberos keytab binary file format")."""
    return b"\x05\x02" + b"".join(_keytab_entry(one, key) for one in principals)


def _keytab_entry(principal: str, key: bytes) -> bytes:
    name, _, realm = principal.partition("@")
    parts = name.split("/")
    texts = (part.encode() for part in (realm, *parts))
    body = struct.pack(">H", len(parts))
    body += b"".join(struct.pack(">H", len(text)) + text for text in texts)
    body += struct.pack(">IIBHH", 1, 1_700_000_000, 2, 18, len(key)) + key
    return struct.pack(">i", len(body)) + body


KEYTAB = b64encode(keytab(KEYTAB_PRINCIPAL)).decode()
