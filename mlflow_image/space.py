"""Free disk space: how much there is, and work that ends with numbers when a disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_image import watch
from mlflow_image.errors import Failure

MIB = 1 << 20
#: Work ends when less is free: many programs do not report a failed write.
RESERVE_MIB = 128
#: The same for the number of files, where a file system limits it.
RESERVE_FILES = 1000
CACHE_REMEDY = "run `invoke clean`, or set MLFLOW_IMAGE_CACHE to a folder on a larger disk"
#: A full disk, a used-up quota.
ERRNOS = (errno.ENOSPC, errno.EDQUOT)
#: The same in the output of programs: of libc, of Rust (uv), of xorriso.
WORDS = (*map(os.strerror, ERRNOS), "os error 28", "os error 122", "exceeds free space")


class DiskFull(Failure):
    """A disk of this host has too little free space for the work.

    room: set when the message has that room's numbers.
    """

    room: Room | None = None


@dataclass(frozen=True)
class Room:
    """The space that some work has on a disk.

    what: the work, as messages name it. folder: where it writes; need not exist yet.
    needed_mib: the most that it uses there at once; 0 if unknown. scratch: what the work has
    written so far, and removes at its end. also: other folders that it writes a little to.
    """

    what: str
    folder: Path
    needed_mib: int
    remedy: str
    scratch: Path | None = None
    also: tuple[Path, ...] = ()

    def require(self) -> None:
        """Raise DiskFull if less is free than the work needs."""
        if free_mib(self.folder) < self.needed_mib + RESERVE_MIB:
            raise self.error()
        self.check()

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """End the body with DiskFull when the disk becomes full, however that shows.

        A program may have ignored a failed write: call `check` before its work is used.
        """
        try:
            with watch.during(self.check):
                yield
        except (Failure, OSError) as error:
            for cause in causes(error):
                if isinstance(cause, DiskFull) and cause.room:
                    raise cause from None
            if not self.full and not is_cause(error):
                raise
            evidence = error.evidence or error.what if isinstance(error, Failure) else str(error)
            raise self.error(evidence) from error

    @property
    def full(self) -> Path | None:
        """The folder whose disk is nearly full, if there is one."""
        return next(filter(is_full, (self.folder, *self.also)), None)

    def check(self) -> None:
        """Raise DiskFull when a disk is nearly full."""
        if self.full:
            raise self.error()

    def error(self, evidence: str = "") -> DiskFull:
        """What to raise when there is too little space: where, free, needed, missing."""
        full, remedy = self.full or self.folder, self.remedy
        if not free_files(full):
            what = f"{full} can hold no more files"
        elif full != self.folder or not self.needed_mib:
            what = f"{free_mib(full)} MiB are free in {full}"
        else:
            had_mib = free_mib(full) + (used_mib(self.scratch) if self.scratch else 0)
            needed_mib = self.needed_mib + RESERVE_MIB
            # The need is an estimate, and other programs write too.
            needed = f"{needed_mib} MiB" if needed_mib > had_mib else "more"
            missing_mib = max(needed_mib - had_mib, RESERVE_MIB)
            what = f"{full} has {had_mib} MiB for it, {needed} would be needed"
            remedy = f"free at least {missing_mib} MiB there: {self.remedy}"
        found = DiskFull(f"{self.what}: the disk is full: {what}", evidence=evidence, remedy=remedy)
        found.room = self
        return found


def is_cause(error: BaseException) -> bool:
    """Whether an error comes from a full disk of this host, as far as it or its causes say so."""
    for cause in causes(error):
        if isinstance(cause, Failure) and cause.of_guest:
            return False  # the causes of that one quote the guest, too
        text = f"{cause.what} {cause.evidence}" if isinstance(cause, Failure) else str(cause)
        if isinstance(cause, DiskFull) or getattr(cause, "errno", None) in ERRNOS:
            return True
        if isinstance(cause, Failure | OSError) and says_so(text):
            return True
    return False


def says_so(text: str) -> bool:
    """Whether the output of a program names a full disk."""
    return any(words in text for words in WORDS)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def is_full(folder: Path) -> bool:
    """Whether a disk has less free than work should leave there."""
    return free_mib(folder) < RESERVE_MIB or not free_files(folder)


def free_mib(folder: Path) -> int:
    """Free space in MiB on the file system of `folder`, which need not exist yet."""
    stat = os.statvfs(existing_parent(folder))
    return stat.f_bavail * stat.f_frsize // MIB


def free_files(folder: Path) -> bool:
    """Whether more files can be made there; some file systems have no limit (f_files is 0)."""
    stat = os.statvfs(existing_parent(folder))
    return stat.f_files == 0 or stat.f_favail >= RESERVE_FILES


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def used_mib(folder: Path) -> int:
    """The space that the files below a folder take, in MiB; unreadable folders are left out."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.lstat(Path(top, name))
                total += stat.st_blocks * 512 // max(1, stat.st_nlink)
    return total // MIB


def shortage(needed_mib: int, folder: Path, remedy: str) -> str:
    """One sentence when less disk is free in `folder` than needed; empty otherwise."""
    free = free_mib(folder)
    if free >= needed_mib:
        return ""
    return (
        f"not enough disk: {needed_mib} MiB are needed in {folder}, {free} MiB are free; {remedy}"
    )
