"""The NoCloud seed of one VM: the user-data byte for byte, and our ssh key in the meta-data."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from mlflow_image import command, files
from mlflow_image.errors import Failure

KEY_NAME = "id_ed25519"
ISO_NAME = "seed.iso"


def make_key(directory: Path) -> str:
    """Create the VM's own ssh key in its directory; returns the public key's line."""
    key = directory / KEY_NAME
    command.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mlflow-image", "-f", key])
    return key.with_suffix(".pub").read_text().strip()


def meta_data(hostname: str, public_key: str) -> str:
    """The NoCloud meta-data, as JSON, which is also YAML.

    cloud-init installs `public-keys` for the image's default user, whatever the user-data
    contains (DataSource.get_public_ssh_keys takes a list of lines), so we need not change
    the user-data. The instance id is new for every VM.
    """
    return json.dumps(
        {
            "instance-id": f"mlflow-image-{uuid.uuid4()}",
            "local-hostname": hostname,
            "public-keys": [public_key],
        },
        indent=1,
    )


def write_iso(directory: Path, user_data: bytes, meta: str) -> Path:
    """Write `seed.iso` (label cidata) into the VM's directory, readable by the owner only.

    Source of the layout: cloud-init's NoCloud datasource. Raises Failure when neither
    xorriso nor genisoimage is installed.
    """
    content = directory / "seed"
    content.mkdir(mode=0o700)
    files.write_private(content / "user-data", user_data)
    files.write_private(content / "meta-data", meta)
    iso = directory / ISO_NAME
    files.write_private(iso, b"")
    options = ["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"]
    command.run([*iso_tool(), *options, iso, content])
    return iso


def iso_tool() -> list[str]:
    if shutil.which("xorriso"):
        return ["xorriso", "-as", "mkisofs"]
    if shutil.which("genisoimage"):
        return ["genisoimage"]
    raise Failure(
        "neither xorriso nor genisoimage is installed; one is needed to write the cloud-init seed",
        remedy="apt install xorriso",
    )
