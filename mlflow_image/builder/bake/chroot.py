"""The guest's packages as a root folder of this host, where their Python runs natively."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.inputs.gather import Inputs

#: Where the guest has its disc.
PAYLOAD = "/run/payload"

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

#: Run in the root: what of the packages' own scripts a Python may see. ctypes looks for
#: libraries in ldconfig's list.
SET_UP = """set -eu
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
ldconfig
"""

#: $1: the root; $2: `bind` where another /proc than a new one will do; the others: the command.
#: It gets what Python expects of a running system, a place for semaphores among it. It gets no
#: network, as in the build VM, nothing of this host's processes, and no capability: wheels run
#: code. A user namespace may not mount /proc in a container that hides a part of its own.
RUN = """set -eu
root=$1
may_bind=$2
shift 2
mkdir -p "$root/dev/shm" "$root/proc"
mount -t tmpfs shm "$root/dev/shm"
if ! mount -t proc -o ro,nosuid,nodev,noexec proc "$root/proc" 2> /dev/null; then
  [ "$may_bind" = bind ] || { echo "/proc cannot be mounted" >&2; exit 1; }
  mount --rbind /proc "$root/proc"
  mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc"
fi
for name in null urandom zero; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
  mount -o remount,bind,ro,nosuid,noexec "$root/dev/$name"
done
exec unshare --net --ipc --uts -- chroot "$root" \\
  /usr/bin/setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""

#: Nothing else of the caller's environment, secrets among it, is there.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}

#: Says whether the guest's Python can do here what will be asked of it. A module of its own
#: that cannot be imported would be missing from the list of modules without a word.
PROBE = """
import importlib, multiprocessing, pkgutil, sys
multiprocessing.Lock()
own = [path for path in sys.path if path.endswith("/lib-dynload")]
for module in pkgutil.iter_modules(own):
    if not module.name.startswith(("_test", "_ctypes_test", "_xx", "xx")):
        importlib.import_module(module.name)
"""


def unpack_packages(inputs: Inputs, root: Path) -> None:
    """The base's packages, as far as a Python needs them.

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
    for words in (["/bin/sh", "-c", SET_UP], ["/usr/bin/python3", "-I", "-c", PROBE]):
        if done.returncode == 0:
            done = rootless.run(inside(root, words), check=False)
    if done.returncode != 0:
        said = command.last_lines(done.stderr, 1)
        raise Failure(f"its Python {inputs.python} does not run on this host: {said}")


def put_payload(files: Mapping[str, Path], root: Path) -> None:
    """Copies of what the guest finds on its disc, where it has that disc."""
    for name, path in files.items():
        target = root / PAYLOAD.lstrip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def stream(
    root: Path, words: list[str], on_line: Callable[[str], None], variables: Mapping[str, str]
) -> None:
    """`command.stream` as root of the folder, in surroundings that go with it."""
    command.stream([*rootless.prefix(), *inside(root, words, variables)], on_line)


def inside(
    root: Path, words: list[str], variables: Mapping[str, str] | None = None
) -> list[str | Path]:
    """A command's words as they are in the root, for whoever is root of the folder."""
    may_bind = "new" if os.geteuid() == 0 else "bind"
    environment = [
        f"{name}={value}" for name, value in {**ENVIRONMENT, **(variables or {})}.items()
    ]
    return ["sh", "-c", RUN, "sh", root, may_bind, "/usr/bin/env", "-i", *environment, *words]
