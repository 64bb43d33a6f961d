"""The command line of mlflow-configure; a module of its own because the boot needs none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """check: a file to look at, or None to configure. root: the tree to configure."""

    check: Path | None
    apply: bool
    root: Path


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line; prints help or a refusal and exits (2) by itself."""
    parser = argparse.ArgumentParser(
        prog="mlflow-configure",
        description="Checks /etc/mlflow/settings.yaml and puts it in force. Bad settings never "
        "replace good ones. Without options: what happens at every boot.",
    )
    parser.add_argument(
        "--check",
        metavar="FILE",
        nargs="?",
        type=Path,
        const=Path("/etc/mlflow/settings.yaml"),
        help="only say whether FILE (default: %(const)s) is sound; exit code 0 or 2",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="put the settings in force and restart the server if anything has changed",
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="work below DIR (for tests)"
    )
    found = parser.parse_args(argv)
    if found.apply and found.check is not None:
        parser.error("--check changes nothing: leave out --apply")
    return Arguments(found.check, found.apply, found.root)
