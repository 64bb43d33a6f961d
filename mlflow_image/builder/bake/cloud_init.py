"""Takes cloud-init's code out of an image's tree, so that `up` can read user-data as it does."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mlflow_image import files

LIBRARIES = "usr/lib/python3/dist-packages/"
#: cloud-init, and the libraries that the host does not have. All of them are pure Python.
NEEDED = (
    *("cloudinit/", "configobj", "validate", "_version.py", "six.py"),
    *("jsonpatch.py", "jsonpointer.py"),
)
#: The names of the image's users and groups: files that cloud-init writes belong to them.
ACCOUNTS = ("etc/passwd", "etc/group")
#: The first time that a zip file can hold, so that the same tree gives the same bytes.
TIME = (1980, 1, 1, 0, 0, 0)


def archive(tree: Path, target: Path) -> None:
    """Write the zip: `lib/` with the modules, `etc/` with users and groups. tree: a tar."""
    with (
        tarfile.open(tree) as tar,
        files.replacing(target) as temporary,
        zipfile.ZipFile(temporary, "w") as made,
    ):
        for name, member in sorted(chosen(tar), key=lambda one: one[0]):
            content = tar.extractfile(member)
            if content is not None:
                made.writestr(zipfile.ZipInfo(name, TIME), content.read(), zipfile.ZIP_DEFLATED)


def chosen(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Name in the zip, and member, of every file that is needed."""
    for member in tar:
        path = member.name.removeprefix("./")
        if path in ACCOUNTS:
            yield path, member
        module = path.removeprefix(LIBRARIES)
        wanted = module != path and module.startswith(NEEDED)
        if wanted and member.isfile() and module.endswith((".py", ".json")):
            yield f"lib/{module}", member
