"""cloud-init's code is taken out of a tree, the same bytes every time."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from mlflow_image.builder.bake import cloud_init

LIBRARIES = "./usr/lib/python3/dist-packages/"
WANTED = {
    "./etc/passwd": "etc/passwd",
    "./etc/group": "etc/group",
    LIBRARIES + "cloudinit/util.py": "lib/cloudinit/util.py",
    LIBRARIES + "cloudinit/config/schemas/v1.json": "lib/cloudinit/config/schemas/v1.json",
    LIBRARIES + "configobj/__init__.py": "lib/configobj/__init__.py",
    LIBRARIES + "jsonpatch.py": "lib/jsonpatch.py",
}
OTHER = (
    "./etc/shadow",
    LIBRARIES + "yaml/__init__.py",
    LIBRARIES + "cloudinit/__pycache__/util.cpython-310.pyc",
    "./opt/usr/lib/python3/dist-packages/cloudinit/util.py",
)


def tree(file: Path, names: list[str], mtime: int) -> Path:
    with tarfile.open(file, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(name), mtime
            tar.addfile(member, io.BytesIO(name.encode()))
    return file


def test_the_archive_has_cloud_init_and_the_names_of_users_but_no_secrets(tmp_path: Path) -> None:
    names = [*WANTED, *OTHER]
    cloud_init.archive(tree(tmp_path / "tree.tar", names, 5), tmp_path / "made.zip")
    with zipfile.ZipFile(tmp_path / "made.zip") as made:
        assert sorted(made.namelist()) == sorted(WANTED.values())
        assert made.read("lib/cloudinit/util.py").decode() == LIBRARIES + "cloudinit/util.py"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    for name, names, mtime in (("a", list(WANTED), 5), ("b", list(WANTED)[::-1], 7)):
        cloud_init.archive(tree(tmp_path / f"{name}.tar", names, mtime), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
