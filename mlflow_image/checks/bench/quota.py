"""Holds processes to a share of one processor, with a control group of the kernel's; for root.

Sources: the kernel's documentation, "CFS Bandwidth Control" and "Control Group v2".
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from mlflow_image.errors import Refusal

ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_EMPTY_WITHIN_S = 10.0


@contextlib.contextmanager
def held(leaders: Iterable[int], percent: int) -> Iterator[None]:
    """Hold these processes and all that they have started to `percent` of one processor together.

    Raises Refusal where this user or this kernel cannot.
    """
    made = parent() / f"mlflow-image-bench-{secrets.token_hex(4)}"
    try:
        made.mkdir()
    except OSError as error:
        raise _refusal(f"{made}: {error.strerror}") from None
    try:
        _limit(made, _PERIOD_US * percent // 100)
        for leader in leaders:
            process = psutil.Process(leader)
            for one in (process, *process.children(recursive=True)):
                (made / "cgroup.procs").write_text(str(one.pid))
        yield
    except OSError as error:
        raise _refusal(f"{made}: {error.strerror}") from None
    finally:
        _remove(made)


def parent() -> Path:
    """The folder for new groups: of version 1's controller, or of version 2."""
    if os.geteuid() != 0:
        raise _refusal("this is not root")
    first = ROOT / "cpu"
    controllers = ROOT / "cgroup.subtree_control"
    if (first / "cgroup.procs").exists():
        return first
    if controllers.exists() and "cpu" in controllers.read_text().split():
        return ROOT
    raise _refusal(f"{ROOT} has no controller for processors")


def _limit(group: Path, quota_us: int) -> None:
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        return
    (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
    (group / "cpu.cfs_quota_us").write_text(str(quota_us))


def _remove(group: Path) -> None:
    """Give the processes back, and remove the group."""
    deadline_s = time.monotonic() + _EMPTY_WITHIN_S
    while group.exists() and time.monotonic() < deadline_s:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it has ended
                (group.parent / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):  # one that has ended is still counted
            group.rmdir()
        time.sleep(0.1)


def _refusal(why: str) -> Refusal:
    return Refusal(
        f"processes cannot be held to a share of a processor here: {why}",
        remedy="run it as root on Linux with control groups",
    )
