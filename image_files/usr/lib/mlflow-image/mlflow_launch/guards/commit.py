"""Puts a file in its place so that a power cut cannot undo it; what arrives together waits once.

On most file systems that takes two fsyncs: of the file before it gets its name, and of the folder
after it. On ext4 one commit of the journal does for any number of files. Their data are written out
first, so that the journal knows their blocks and lengths; then each gets its name; then one thread
commits for all that wait. A commit holds every change made before it, and sends the disk's own
cache to the medium before its last block (Linux's Documentation/filesystems/journalling.rst, ext4's
`data=ordered` with barriers, both the default). If the power fails before, either name stays.
"""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from pathlib import Path

_EXT4 = 0xEF53  # statfs(2)
# sync_file_range(2): wait for writes under way, start the others, wait for those.
_WRITE_OUT = 1 | 2 | 4
_LIBC = ctypes.CDLL(None, use_errno=True)


def publish(staged: Path, target: Path) -> None:
    """Rename a complete file to its place; returns when that is on the disk. Raises OSError."""
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        if _is_ext4(descriptor):
            _write_out(descriptor)
            staged.replace(target)
            _COMMITS.wait(descriptor)
        else:
            os.fsync(descriptor)
            staged.replace(target)
            sync_directory(target.parent)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk. Raises OSError."""
    _sync(path, os.O_RDONLY)


def sync_directory(path: Path) -> None:
    """Wait until a directory's entries are on the disk. Raises OSError."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


class Commits:
    """Lets one thread commit the journal for all threads of this process that wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = False
        self._begun = 0
        self._done = 0

    def wait(self, descriptor: int) -> None:
        """Return after a commit that began after this call. descriptor: an open file there.

        Raises OSError when that commit failed, in the thread that tried it; the others try again.
        """
        with self._changed:
            wanted = self._begun + 1
            while self._done < wanted:
                if not self._running:
                    self._commit(descriptor)
                else:
                    self._changed.wait()

    def _commit(self, descriptor: int) -> None:
        """Commit in this thread; called and left with the lock held."""
        self._running = True
        self._begun += 1
        number = self._begun
        self._changed.release()
        try:
            # Makes this file part of the transaction that is open now: all earlier changes are in
            # it or in one before it.
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode))
            os.fsync(descriptor)
        finally:
            self._changed.acquire()
            self._running = False
            self._changed.notify_all()
        self._done = number


_COMMITS = Commits()


def _is_ext4(descriptor: int) -> bool:
    """Whether an open file is on ext4 (or ext3 or ext2, which have the same number)."""
    buffer = (ctypes.c_long * 32)()
    return _LIBC.fstatfs(descriptor, ctypes.byref(buffer)) == 0 and buffer[0] == _EXT4


def _write_out(descriptor: int) -> None:
    if _LIBC.sync_file_range(
        descriptor, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE_OUT)
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
