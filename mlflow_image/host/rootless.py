"""Commands that act as root of a tree: through a user namespace, or directly for root itself."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mlflow_image import command
from mlflow_image.errors import Refusal


def prefix() -> list[str]:
    """What to put before a command so that it may own, chroot into and delete any file of a tree.

    What it mounts or starts ends with it, also when it is killed.
    """
    if os.geteuid() == 0:
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]
    return [sys.executable, "-m", "mlflow_image.host.namespace"]


def run(argv: list[str | Path], **options: object) -> command.Completed:
    """`command.run` as root of the tree."""
    return command.run([*prefix(), *argv], **options)  # type: ignore[arg-type]


def remove(folder: Path) -> None:
    """Delete a folder whose files may belong to the namespace's users."""
    if folder.exists():
        run(["rm", "-rf", "--one-file-system", folder])


def require() -> None:
    """Refuse early when this user cannot make a user namespace with mapped ids."""
    if os.geteuid() == 0:
        return
    if not shutil.which("newuidmap"):
        raise Refusal(
            "newuidmap is missing: an ordinary user needs it to unpack a root tree",
            remedy="apt install uidmap (`scripts/invoke` does it when it may)",
        )
    done = run(["chroot", "/", "true"], check=False)
    if done.returncode != 0:
        raise Refusal(
            "this user cannot make a user namespace with mapped ids: "
            + command.last_lines(done.stderr, 1),
            remedy="give the user a range in /etc/subuid and /etc/subgid (usermod --add-subuids "
            "100000-165535 --add-subgids 100000-165535 USER); where AppArmor restricts user "
            "namespaces (Ubuntu >= 23.10): sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
