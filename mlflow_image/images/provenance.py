"""Which commit of the checkout an image or a test result comes from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import command
from mlflow_image.paths import HERE, Checkout


@dataclass(frozen=True)
class Commit:
    """commit: the full hash, None without git. clean: whether no file differs from it."""

    commit: str | None
    clean: bool


UNKNOWN = Commit(None, False)


def git(checkout: Checkout = HERE, apart_from: tuple[str, ...] = ()) -> Commit:
    """The commit of the checkout, and whether its files differ from that commit.

    apart_from: files that may differ, relative to the checkout.
    """
    if not shutil.which("git"):
        return UNKNOWN
    in_checkout: list[str | Path] = ["git", "-C", checkout.root]
    head = command.run([*in_checkout, "rev-parse", "HEAD"], check=False)
    if head.returncode != 0:
        return UNKNOWN
    places = [".", *(f":(exclude){name}" for name in apart_from)]
    changes = command.run([*in_checkout, "status", "--porcelain", "--", *places], check=False)
    clean = changes.returncode == 0 and not changes.stdout.strip()
    return Commit(head.stdout.strip(), clean)
