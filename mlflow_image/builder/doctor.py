"""What this host can do: tools and versions, accelerator, disk, memory, network, cache."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from mlflow_image import command, space
from mlflow_image.builder import requirements
from mlflow_image.builder.bake import packer
from mlflow_image.builder.cache import all_entries
from mlflow_image.errors import Failure, as_typed
from mlflow_image.host import accelerator, resources, rootless
from mlflow_image.inputs import anaconda
from mlflow_image.paths import HERE
from mlflow_image.progress import human_bytes
from mlflow_settings import settings
from mlflow_settings.blocks import hosts
from mlflow_settings.document import Faults

PACKAGES_FILE = HERE.root / "scripts" / "host" / "packages.txt"
#: Programs that print their version with another option than --version.
VERSION_WORDS = {"ssh": "-V", "mke2fs": "-V", "packer": "version", "newuidmap": "", "mcopy": "-V"}


@dataclass(frozen=True)
class Row:
    """The result of one check."""

    what: str
    found: str
    ok: bool
    needed: bool = True
    #: What the user can do about it, shown when `ok` is False.
    remedy: str = ""


def examine() -> list[Row]:
    """Run every check; changes nothing."""
    rows = [Row("python", sys.version.split()[0], (3, 10) <= sys.version_info < (3, 14))]
    rows += [tool for tool in tools() if tool.what != "packer"]
    rows += [packer_row(), namespaces(), accelerator_row(), *room(), *network()]
    return [*rows, *map(settings_row, sorted(HERE.root.glob("settings*.yaml")))]


def tools() -> list[Row]:
    """The programs and files of scripts/host/packages.txt."""
    rows = []
    for line in PACKAGES_FILE.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        what, package, reason = line.split(None, 2)
        wanted = what.removeprefix("any:").split(",")
        found = next((path for name in wanted if (path := where(name))), None)
        name = Path(wanted[0]).name
        missing = f"missing: {reason} (apt install {package.rstrip('?')})"
        rows.append(Row(name, version(found) if found else missing, bool(found)))
    return rows


def where(name: str) -> str | None:
    """The path of a program or file, or None."""
    return (name if Path(name).exists() else None) if name.startswith("/") else shutil.which(name)


def version(path: str) -> str:
    """A program's version, or the path of a file."""
    name = Path(path).name
    word = VERSION_WORDS.get(name, "--version")
    if not word or not {"bin", "sbin"} & set(Path(path).parts):
        return path
    done = command.run([path, word], check=False, env={"CHECKPOINT_DISABLE": "1"})
    match = re.search(r"\d+(\.\d+)+\S*", done.stdout + done.stderr)
    return f"{match[0].rstrip(',)')}  {path}" if match else path


def packer_row() -> Row:
    if not shutil.which("packer"):
        go = shutil.which("go")
        how = f"will be built with {go}" if go else "not found, nor is Go, which could build it"
        return Row("packer", how, bool(go))
    try:
        return Row("packer", str(packer.find()), True)
    except Failure as failure:
        return Row("packer", str(failure).replace("\n", "; "), False)


def namespaces() -> Row:
    try:
        rootless.require()
    except Failure as failure:
        return Row("user namespaces", str(failure).replace("\n", "; "), False)
    return Row("user namespaces", "this user can unpack a root tree", True)


def accelerator_row() -> Row:
    chosen = accelerator.choose()
    return Row("accelerator", str(chosen), True)


def room() -> list[Row]:
    """Memory, disk, and the size of the cache."""
    needed = requirements.of_build()
    memory_mib = resources.free_memory_mib()
    disk_mib = space.free_mib(needed.folder)
    used = sum(entry.bytes for entry in all_entries())
    return [
        Row(
            "memory",
            f"{human_bytes(memory_mib << 20)} free, {human_bytes(needed.memory_mib << 20)} needed",
            not needed.memory_shortage,
            remedy=requirements.MEMORY_REMEDY,
        ),
        Row(
            "disk",
            f"{human_bytes(disk_mib << 20)} free in {needed.folder}, "
            f"{human_bytes(needed.disk_mib << 20)} needed",
            not needed.disk_shortage,
            remedy=space.CACHE_REMEDY,
        ),
        Row("cache", f"{human_bytes(used)} in {needed.folder}", True),
    ]


def network() -> list[Row]:
    """Whether Anaconda can be fetched; a build needs no network after `invoke fetch`."""
    try:
        installer = anaconda.read_installers().get("anaconda")
    except Failure as failure:
        return [Row("installers", str(failure).replace("\n", "; "), False)]
    if installer is None:
        return [
            Row("network", f"{anaconda.installers_file()} pins no Anaconda", ok=False, needed=False)
        ]
    why = anaconda.why_not_fetched(installer.url)
    found = f"{installer.host} {why}: no Anaconda" if why else f"{installer.host} offers Anaconda"
    return [Row("network", found, not why, needed=False)]


def settings_row(file: Path) -> Row:
    """Whether the settings in the checkout can be used, and whom they let in."""
    try:
        chosen = settings.check(file.read_text(encoding="utf-8"), file.name)
    except Faults as refused:
        more = f", and {len(refused.faults) - 1} more" if refused.faults[1:] else ""
        return Row(file.name, f"{refused.faults[0]}{more}", ok=False, needed=False)
    except (OSError, UnicodeDecodeError) as error:
        return Row(file.name, f"cannot be read: {error}", ok=False, needed=False)
    host = chosen.server.host
    if chosen.auth.basic or not hosts.may_be_public(host):
        return Row(file.name, f"valid; the server listens on {host}", ok=True)
    return Row(
        file.name,
        f"listens on {host} without passwords",
        ok=False,
        needed=False,
        remedy="on a machine with an address in the internet, everybody may read and delete "
        "everything; add `auth: {basic: {}}`, or set server.host to a private address",
    )


def table(rows: list[Row]) -> Table:
    """The rows as a table for the terminal."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("", "what", "found"):
        shown.add_column(heading, overflow="fold")
    for row in rows:
        mark = "ok" if row.ok else "MISSING" if row.needed else "no"
        advice = f": {row.remedy}" if row.remedy and not row.ok else ""
        shown.add_row(mark, row.what, as_typed(row.found + advice))
    return shown
