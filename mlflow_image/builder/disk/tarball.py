"""A folder of the checkout as a tar that does not depend on the clone, umask or clock."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.builder.disk.epoch import SOURCE_DATE_EPOCH
from mlflow_image.errors import Failure


@dataclass(frozen=True)
class Mode:
    """A row of the table of modes: owner and mode where they are not root, 0644 or 0755."""

    mode: int
    owner: str
    group: str


def files_of(folder: Path) -> list[Path]:
    """Files and links below a folder, sorted, without __pycache__."""
    return sorted(
        path
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and (path.is_symlink() or path.is_file())
    )


def write(tree: Path, target: Path, table: Path | None = None) -> Path:
    """Write a folder into a tar: owner root, files 0644, folders 0755, unless the table differs.

    Raises Failure for an invalid line of the table, and for paths in it that do not exist.
    """
    modes = read_modes(table) if table else {}
    names = {f"/{path.relative_to(tree)}" for path in files_of(tree)}
    folders = {str(Path(name).parent) for name in names}
    folders |= {str(parent) for folder in folders for parent in Path(folder).parents}
    if table and (unknown := sorted(set(modes) - names - folders)):
        raise Failure(
            f"{table.name} names paths that {tree.name}/ does not have: {', '.join(unknown)}",
            remedy=f"correct or remove these rows in {table}",
        )
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted((folders - {"/"}) | names):
            path = tree / name.lstrip("/")
            entry = tar.gettarinfo(path, arcname=f".{name}")
            default = 0o755 if entry.isdir() else 0o777 if entry.issym() else 0o644
            row = modes.get(name, Mode(default, "root", "root"))
            entry.mode, entry.uname, entry.gname = row.mode, row.owner, row.group
            entry.uid = entry.gid = 0
            entry.mtime = SOURCE_DATE_EPOCH
            tar.addfile(entry, io.BytesIO(path.read_bytes()) if entry.isreg() else None)
    return target


def read_modes(table: Path) -> dict[str, Mode]:
    """Rows `MODE OWNER GROUP PATH`; raises Failure naming the invalid line."""
    found = {}
    for number, line in enumerate(table.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            mode, owner, group, path = words
            found[path] = Mode(int(mode, 8), owner, group)
        except ValueError as error:
            raise Failure(
                f"{table.name}:{number}: expected MODE OWNER GROUP PATH, found: {line}",
                remedy=f"correct this line in {table}",
            ) from error
    return found
