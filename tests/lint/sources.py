"""The files that the linters check: all that git tracks or would add."""

from __future__ import annotations

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SETTINGS = CHECKOUT / "image_files" / "usr" / "lib" / "mlflow-image"


def sources() -> list[Path]:
    """Every existing file that git does not ignore, except symbolic links."""
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
    """Files whose first line names a shell, and those that a shell sources."""
    files = sources()
    return [path for path in files if path.suffix == ".sh" or interpreter(path) in ("sh", "bash")]


def python_scripts() -> list[Path]:
    """Files whose first line names Python; linters that search for *.py miss them."""
    return [path for path in sources() if interpreter(path).startswith("python")]


def interpreter(path: Path) -> str:
    """The program in a script's first line, without its folder; empty if there is none."""
    with path.open(errors="replace") as file:
        first = file.readline(120)
    words = first.removeprefix("#!").split()
    if not first.startswith("#!") or not words:
        return ""
    named = words[1] if words[0].endswith("/env") and len(words) > 1 else words[0]
    return Path(named).name


def yaml_files() -> list[Path]:
    return [path for path in sources() if path.suffix in (".yaml", ".yml")]
