"""Disk images: every call of qemu-img is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow_image import command, files
from mlflow_image.errors import Failure, Refusal

MIB = 1 << 20
#: Exit codes of `qemu-img check`: 0 is intact, 3 is "leaked clusters", which only waste space.
INTACT = (0, 3)


def to_qcow2(raw: Path, target: Path, *, compress: bool = False) -> None:
    """Convert a raw disk; compression uses zstd (QEMU >= 5.1), five times as fast as zlib."""
    options = ["-c", "-o", "compression_type=zstd"] if compress else []
    with files.replacing(target) as temporary:
        command.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, temporary])


def from_image(image: Path, target: Path, disk_mib: int) -> None:
    """Copy a vendor's qcow2 to a disk of `disk_mib` MiB; the guest grows its root on first boot.

    Raises Failure when the image's own disk is larger.
    """
    own_mib = -(-int(info(image, "-f", "qcow2")["virtual-size"]) // MIB)
    if own_mib > disk_mib:
        raise Failure(
            f"the cloud image has a disk of {own_mib} MiB; disk_mib is {disk_mib}",
            remedy=f"set disk_mib to {own_mib} or more",
        )
    with files.replacing(target) as temporary:
        command.run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", image, temporary])
        command.run(["qemu-img", "resize", "-q", "-f", "qcow2", temporary, f"{disk_mib}M"])


def overlay(backing: Path, target: Path, *, size_bytes: int | None = None) -> None:
    """Create a qcow2 that holds only the differences from `backing`, named by absolute path.

    The backing format is explicit. If QEMU guessed it, a guest on a raw disk could write a
    qcow2 header there that names any file of the host.
    """
    words: list[str | Path] = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    words += ["-b", backing.resolve(), target]
    command.run([*words, str(size_bytes)] if size_bytes else words)


def info(path: Path, *options: str) -> dict[str, Any]:
    """What `qemu-img info` reports: `format`, `virtual-size` in bytes, ...

    -U also reads a disk that a running VM uses. Raises Refusal when it is not a disk image.
    """
    words: list[str | Path] = ["qemu-img", "info", "-U", "--output=json", *options, path]
    done = command.run(words, check=False)
    if done.returncode != 0:
        raise Refusal(f"{path} is not a disk image: {command.last_lines(done.stderr, 1)}")
    return dict(json.loads(done.stdout))


def damage(path: Path) -> str:
    """What is wrong with a qcow2, as reported by qemu-img; empty when it is intact.

    It reads only the qcow2 tables, which is enough to find a truncated file.
    """
    done = command.run(["qemu-img", "check", "-U", "-q", path], check=False)
    return "" if done.returncode in INTACT else command.last_lines(done.stderr, 1)


def backing_chain(path: Path) -> list[Path]:
    """A disk and every backing file below it, as absolute paths; if unreadable, only the disk."""
    words: list[str | Path] = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", path]
    done = command.run(words, check=False)
    chain = json.loads(done.stdout) if done.returncode == 0 else []
    return [path, *(Path(link["filename"]).resolve() for link in chain[1:])]
