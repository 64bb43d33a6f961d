"""What cloud-init makes of user-data, according to the cloud-init that an image carries."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_image import command
from mlflow_image.errors import Failure, Refusal
from mlflow_image.images import find
from mlflow_image.images.find import Image
from mlflow_image.paths import HERE, Checkout

PROGRAM = Path(__file__).with_name("as_cloud_init.py")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Part:
    """One cloud-config part. text: after unpacking and filling in templates. jinja: whether it
    was a template. broken: it is not YAML with keys, so cloud-init ignores it. bad_line: the line
    of a template's syntax error, for which cloud-init ignores it, too; 0 if it has none."""

    name: str
    text: str
    jinja: bool
    broken: bool
    bad_line: int = 0


@dataclass(frozen=True)
class Entry:
    """One entry of the merged write_files. part, position: where it comes from, None if it was
    made by merging. url: its content comes from a URL. text: its content is text."""

    part: int | None
    position: int | None
    encoding: str
    permissions: bool
    text: bool
    url: bool


@dataclass(frozen=True)
class Write:
    """One write to a file. entry: its position in the merged list. late: in the last stage."""

    entry: int
    path: str
    mode: int
    append: bool
    late: bool
    content: bytes


@dataclass(frozen=True)
class Reading:
    """What cloud-init does with user-data.

    failure: why cloud-init fails on all of it, or "". unread: why some of it could not be read
    here. missing: template variables that only the machine knows. errors: entry of write_files
    (None: all of it) -> cloud-init's error. commands: where commands name the settings' folder.
    schema: violations of cloud-init's schema, without values. messages: cloud-init's own
    warnings, without values.
    """

    parts: tuple[Part, ...]
    entries: tuple[Entry, ...]
    writes: tuple[Write, ...]
    errors: Mapping[int | None, str]
    unread: tuple[str, ...]
    missing: tuple[str, ...]
    scripts: bool
    failure: str
    ssh_pwauth: bool
    missing_modules: bool
    commands: tuple[str, ...]
    schema: tuple[str, ...]
    messages: tuple[str, ...]


def archive_of(image: Image, checkout: Checkout = HERE) -> Path | None:
    """The cloud-init that reads user-data for an image; None if there is none.

    Its code runs on this host, so only images in this checkout's dist/ are trusted. For any
    other image and for a bare disk, it is that of the newest image there.
    """
    if is_own(image, checkout):
        return image.cloud_init
    with contextlib.suppress(Refusal):
        newest = find.resolve(checkout=checkout)
        return newest.cloud_init if is_own(newest, checkout) else None
    return None


def is_own(image: Image, checkout: Checkout) -> bool:
    """Whether an image's cloud-init is in this checkout's dist/, and no link to elsewhere."""
    file = image.cloud_init
    return file is not None and file.resolve().parent.parent == checkout.dist.resolve()


def read(raw: bytes, archive: Path, hostname: str) -> Reading:
    """Read user-data with the cloud-init in an archive, as a VM with this host name would.

    Raises Failure when cloud-init's code does not run, or needs too much memory or time.
    """
    asked = {
        "user_data": base64.b64encode(raw).decode(),
        "instance_data": instance_data(hostname),
    }
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        try:
            # -I: no module of the current folder or of the user's own.
            words = [sys.executable, "-I", str(PROGRAM), folder]
            done = command.run(words, stdin=json.dumps(asked), timeout_s=TIMEOUT_S)
        except command.TimedOut as failure:
            raise Failure(
                f"cloud-init's code had not read the user-data after {TIMEOUT_S:.0f} s, "
                "so it was ended",
                remedy="if this host is busy, try again; templates must not repeat without end",
            ) from failure
        except Failure as failure:
            raise Failure(
                "cloud-init's code could not read the user-data",
                evidence=failure.evidence.rstrip().rpartition("\n")[2] or failure.what,
                remedy="is it very large, or does it unpack to very much?",
            ) from failure
    return parsed(json.loads(done.stdout))


def instance_data(hostname: str) -> dict[str, Any]:
    """What a VM with our seed (`vm/seed.py`) gives to templates, as far as it is known now.

    Source: cloud-init's instance-data.json on such a VM. Not here: the new instance id, and what
    the guest finds out about itself.
    """
    cloud = {"cloud_name": "nocloud", "cloud_id": "nocloud", "platform": "nocloud"}
    names = {"local_hostname": hostname, **cloud}
    hyphens = {name.replace("_", "-"): value for name, value in names.items()}
    return {"v1": names | hyphens, "ds": {"meta_data": {"local-hostname": hostname}}}


def parsed(found: Mapping[str, Any]) -> Reading:
    """A reading from the document that the program prints."""
    writes = [
        Write(**{**write, "content": base64.b64decode(write["content"])})
        for write in found["writes"]
    ]
    plain = ("unread", "missing", "commands", "schema", "messages")
    return Reading(
        parts=tuple(Part(**part) for part in found["parts"]),
        entries=tuple(Entry(**entry) for entry in found["entries"]),
        writes=tuple(writes),
        errors={error["entry"]: error["message"] for error in found["errors"]},
        scripts=found["scripts"],
        failure=found["failure"],
        ssh_pwauth=found["ssh_pwauth"],
        missing_modules=found["missing_modules"],
        **{name: tuple(found[name]) for name in plain},
    )
