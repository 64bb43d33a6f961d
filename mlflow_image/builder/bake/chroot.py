"""A chroot of the guest's packages on this host, where the guest's Python runs natively."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Failure
from mlflow_image.host import rootless
from mlflow_image.inputs.gather import Inputs

#: Where the steps find the payload.
PAYLOAD = "/run/payload"

#: $1: the root; the others: .debs. libc6 of a merged /usr needs the links of base-files.
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

#: Run in the root: the parts of the packages' scripts that Python needs. ctypes finds
#: libraries in ldconfig's list.
SET_UP = """set -eu
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
ldconfig
"""

#: $1: the root; $2: `bind` allows the host's /proc if a new one cannot be mounted; the others:
#: the command. The chroot has what Python expects of a running system, such as /dev/shm for
#: semaphores. Wheels run code, so it has no network, no host processes and no capability.
#: A user namespace cannot mount /proc in a container that hides a part of its own /proc.
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

#: The whole environment; the caller's variables, which may hold secrets, are not passed on.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}

#: Tests that the guest's Python works here. A standard module that cannot be imported would
#: otherwise be missing from the module list without an error.
PROBE = """
import importlib, multiprocessing, pkgutil, sys
multiprocessing.Lock()
own = [path for path in sys.path if path.endswith("/lib-dynload")]
for module in pkgutil.iter_modules(own):
    if not module.name.startswith(("_test", "_ctypes_test", "_xx", "xx")):
        importlib.import_module(module.name)
"""


def unpack_packages(inputs: Inputs, root: Path) -> None:
    """Unpack the base's packages, except the kernel's.

    All of them, because a module without its library would be missing from the module list
    without an error. This takes 6 s; only Python's dependencies would take 2 s. Raises Failure
    when a package is missing or the guest's Python does not work here.
    """
    if not inputs.apt_packages:
        raise Failure("a cloud image has no list of packages")
    wanted = [p for p in inputs.apt_packages if not p.name.startswith("linux-")]
    debs = [inputs.store.verified(package.sha256, package.label) for package in wanted]
    root.mkdir()
    done = command.run(["sh", "-c", UNPACK, "sh", root, *debs], check=False)
    for words in (["/bin/sh", "-c", SET_UP], ["/usr/bin/python3", "-I", "-c", PROBE]):
        if done.returncode == 0:
            done = rootless.run(inside(root, words), check=False)
    if done.returncode != 0:
        last = command.last_lines(done.stderr, 1)
        raise Failure(f"the guest's Python {inputs.python} does not run on this host: {last}")


def put_payload(files: Mapping[str, Path], root: Path) -> None:
    """Copy the payload to the place where the steps find it."""
    for name, path in files.items():
        target = root / PAYLOAD.lstrip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def stream(
    root: Path, words: list[str], on_line: Callable[[str], None], variables: Mapping[str, str]
) -> None:
    """`command.stream` as root of the chroot."""
    command.stream([*rootless.prefix(), *inside(root, words, variables)], on_line)


def inside(
    root: Path, words: list[str], variables: Mapping[str, str] | None = None
) -> list[str | Path]:
    """The words that run a command in the chroot; the caller must be root of the folder."""
    may_bind = "new" if os.geteuid() == 0 else "bind"
    environment = [
        f"{name}={value}" for name, value in {**ENVIRONMENT, **(variables or {})}.items()
    ]
    return ["sh", "-c", RUN, "sh", root, may_bind, "/usr/bin/env", "-i", *environment, *words]
