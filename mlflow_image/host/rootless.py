"""Runs commands as root of a tree: in a user namespace, or directly if we are root."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mlflow_image import command, watch
from mlflow_image.errors import Refusal


def prefix() -> list[str]:
    """The words before a command that may chown, chroot into and delete any file of a tree.

    Its mounts and processes end with it, also when it is killed.
    """
    if os.geteuid() == 0:
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
    return [sys.executable, "-m", "mlflow_image.host.namespace"]


def run(argv: list[str | Path], **options: object) -> command.Completed:
    """Like `command.run`, but as root of the tree."""
    return command.run([*prefix(), *argv], **options)  # type: ignore[arg-type]


def remove(folder: Path) -> None:
    """Delete a folder whose files may belong to users of the namespace."""
    if folder.exists():
        with watch.suspended():
            run(["rm", "-rf", "--one-file-system", folder])


def require() -> None:
    """Raise Refusal when this user cannot create a user namespace with mapped ids."""
    if os.geteuid() == 0:
        return
    if not shutil.which("newuidmap"):
        raise Refusal(
            "newuidmap is missing: without root it is needed to unpack a root tree",
            remedy="apt install uidmap (`scripts/invoke` installs it if it may)",
        )
    done = run(["chroot", "/", "true"], check=False)
    if done.returncode != 0:
        raise Refusal(
            "this user cannot create a user namespace with mapped ids: "
            + command.last_lines(done.stderr, 1),
            remedy="give the user a range in /etc/subuid and /etc/subgid (usermod --add-subuids "
            "100000-165535 --add-subgids 100000-165535 USER); if AppArmor restricts user "
            "namespaces (Ubuntu >= 23.10): sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
