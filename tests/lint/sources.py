"""The files that the linters look at: what git knows, or would, without build products."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SETTINGS = CHECKOUT / "image_files" / "usr" / "lib" / "mlflow-image"


def sources() -> list[Path]:
    """Every file of the checkout that is there and not ignored; symbolic links left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (CHECKOUT / name for name in sorted(set(listed.split("\0"))) if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def shell_scripts() -> list[Path]:
    """Files whose first line names a shell."""
    return [path for path in sources() if names_a_shell(path)]


def names_a_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80).split()
    return bool(first) and first[0].startswith(b"#!") and first[-1].endswith((b"sh", b"bash"))


def yaml_files() -> list[Path]:
    return [path for path in sources() if path.suffix in (".yaml", ".yml")]
