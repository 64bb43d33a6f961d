"""The command line of mlflow-configure; a separate module because a boot does not need it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """check: the file to check, or None to configure. root: the tree to configure."""

    check: Path | None
    apply: bool
    root: Path


def parse(argv: Sequence[str]) -> Arguments:
    """Read the command line. Prints help and exits with 0, or an error and exits with 2."""
    parser = argparse.ArgumentParser(
        prog="mlflow-configure",
        description="Checks and applies /etc/mlflow/settings.yaml. Invalid settings never replace "
        "valid ones. Without options, does the same as at every boot.",
    )
    parser.add_argument(
        "--check",
        metavar="FILE",
        nargs="?",
        type=Path,
        const=Path("/etc/mlflow/settings.yaml"),
        help="only check FILE (default: %(const)s); the exit code is 0 if it is valid, else 2",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="apply the settings, and restart the server if anything has changed",
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="work below DIR (for tests)"
    )
    found = parser.parse_args(argv)
    if found.apply and found.check is not None:
        parser.error("--check never applies settings: leave out --apply")
    return Arguments(found.check, found.apply, found.root)
