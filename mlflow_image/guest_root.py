"""The guest's Python and the wheels as a root folder of this host, where both run natively."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mlflow_image import command, rootless
from mlflow_image.errors import Failure
from mlflow_image.inputs import Inputs

PREFIX = PurePosixPath("opt/mlflow")

#: $1: the root; the others: .debs. Where /usr is merged, libc6 relies on links of base-files.
UNPACK = """set -eu
root=$1
shift
for name in bin lib lib64 sbin; do
  mkdir -p "$root/usr/$name"
  ln -s "usr/$name" "$root/$name"
done
for deb; do
  dpkg-deb --fsys-tarfile "$deb" > "$root/data.tar"
  tar -C "$root" --no-same-owner --keep-directory-symlink -xf "$root/data.tar"
done
rm "$root/data.tar"
"""

#: Run in the root: what of the packages' own scripts a Python may see, and the environment as
#: 10-python.sh makes it. ctypes looks for libraries in ldconfig's list.
#: -I: nothing of the caller's environment has a say.
SET_UP = """set -eu
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
ldconfig
/usr/bin/python3 -I -m venv --without-pip "$1"
"""

#: $1: the root; the others: the command. It gets what Python expects of a running system, a
#: place for semaphores among it, and no network, as in the build VM.
RUN = """set -eu
root=$1
shift
mkdir -p "$root/dev/shm" "$root/proc"
mount -t tmpfs shm "$root/dev/shm"
mount --rbind /proc "$root/proc"
for name in null urandom zero; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
exec unshare --net -- "$@"
"""

#: Says whether the guest's Python can do here what will be asked of it. A module of its own
#: that cannot be imported would be missing from the list of modules without a word.
PROBE = """
import importlib, multiprocessing, pkgutil, sys
multiprocessing.Lock()
own = [path for path in sys.path if path.endswith("/lib-dynload")]
for module in pkgutil.iter_modules(own):
    importlib.import_module(module.name)
"""


def unpack_packages(inputs: Inputs, root: Path) -> None:
    """The base's packages and an environment of the guest's Python, without wheels yet.

    All of them but the kernel's: a module that lacks a library is missing from the list without
    a word. That takes 6 s; those alone that Python depends on would take 2 s. Raises Failure
    when they cannot be had or their Python does not run here.
    """
    if not inputs.apt_packages:
        raise Failure("the base's packages are not known")
    wanted = [p for p in inputs.apt_packages if not p.name.startswith("linux-")]
    debs = [inputs.store.verified(package.sha256, package.label) for package in wanted]
    root.mkdir()
    done = command.run(["sh", "-c", UNPACK, "sh", root, *debs], check=False)
    if done.returncode == 0:
        done = run(root, ["chroot", root, "/bin/sh", "-c", SET_UP, "sh", f"/{PREFIX}"])
    if done.returncode == 0:
        done = run(root, [*python_words(root), "-I", "-c", PROBE])
    if done.returncode != 0:
        said = command.last_lines(done.stderr, 1)
        raise Failure(f"its Python {inputs.python} does not run on this host: {said}")


def unpack_wheels(inputs: Inputs, root: Path) -> None:
    """The wheels' files where the guest will have them.

    Raises Failure when two wheels bring different files of one name: which of them the
    guest keeps is not known here.
    """
    for wheel in inputs.wheels:
        with zipfile.ZipFile(inputs.store.verified(wheel.sha256, wheel.filename)) as archive:
            for member in archive.infolist():
                place = place_of(member.filename, inputs.python)
                if not place or member.is_dir():
                    continue
                target = root / place
                if not target.exists():
                    extract(archive, member, target)
                elif target.read_bytes() != archive.read(member):
                    raise Failure(
                        f"{wheel.filename} brings another {member.filename} than a wheel before it"
                    )


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def place_of(name: str, python: str) -> PurePosixPath | None:
    """Where a file of a wheel is installed, without the leading slash (PEP 427); None: bin."""
    site = PREFIX / "lib" / f"python{python}" / "site-packages"
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return site / name
    kind, _, rest = rest.partition("/")
    places = {"purelib": site, "platlib": site, "data": PREFIX}
    return places[kind] / rest if kind in places else None


def python_words(root: Path) -> list[str | Path]:
    """How the environment's Python is started in its root."""
    return ["chroot", root, f"/{PREFIX}/bin/python"]


def run(root: Path, words: Iterable[str | Path], **options: object) -> command.Completed:
    """Run a command as root of the folder, in surroundings that go with it."""
    return rootless.run(["sh", "-c", RUN, "sh", root, *words], check=False, **options)
