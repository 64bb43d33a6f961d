"""Runs one command as root of a new user namespace.

`python -m mlflow_image.host.namespace COMMAND ARGUMENT...`

The caller's own id is mapped to 0, so that files in a private home folder stay readable,
and its range in /etc/subuid and /etc/subgid is mapped to 1 and up. util-linux can do
this since 2.38 (`unshare --map-auto`); Ubuntu 22.04 has 2.37. Sources: newuidmap(1),
user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
MS_REC_PRIVATE = 0x4000 | 0x40000

libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> int:
    """Run argv in the namespace; returns its exit code. All its processes end with this one."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command also gets it, and handles it
    unshared_r, unshared_w = os.pipe()
    mapped_r, mapped_w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(unshared_r)
        os.close(mapped_w)
        inside(argv, unshared_w, mapped_r)
    os.close(unshared_w)
    os.close(mapped_r)
    if not os.read(unshared_r, 1):
        return exit_code(child)
    for program, file, own in (
        ("newuidmap", "/etc/subuid", os.getuid()),
        ("newgidmap", "/etc/subgid", os.getgid()),
    ):
        first, count = subordinate_range(Path(file))
        numbers = map(str, (child, 0, own, 1, 1, first, count))
        subprocess.run([program, *numbers], check=True)
    os.write(mapped_w, b"1")
    return exit_code(child)


def inside(argv: list[str], unshared: int, mapped: int) -> None:
    """In the child: enter new namespaces, become root, and act as init for the command."""
    die_with_parent()
    # The command needs no network, but a network namespace of its own: without one it could
    # not mount /sys, as mmdebstrap 0.8.4 (Ubuntu 22.04) does. Later versions bind the host's.
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
    if libc.unshare(flags) != 0:
        error = os.strerror(ctypes.get_errno())
        print(f"this user may not create a user namespace: {error}", file=sys.stderr)
        os._exit(125)
    os.write(unshared, b"1")
    if not os.read(mapped, 1):
        os._exit(125)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.setgroups([])
    init = os.fork()
    if init:
        die_with_parent()
        os._exit(exit_code(init))
    die_with_parent()
    libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None)
    libc.mount(b"proc", b"/proc", b"proc", 0, None)
    command = os.fork()
    if command == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os.execvp(argv[0], argv)  # noqa: S606
        except OSError as error:
            print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    while True:  # as the namespace's init, reap orphaned processes
        pid, status = os.wait()
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def die_with_parent() -> None:
    """Ask the kernel to kill this process with its parent; a change of ids resets this."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def exit_code(child: int) -> int:
    """Wait for a child; returns its exit code, or 128 + the signal's number as shells do."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def subordinate_range(file: Path) -> tuple[int, int]:
    """First id and size of the caller's range in /etc/subuid or /etc/subgid (subuid(5))."""
    me = (pwd.getpwuid(os.getuid()).pw_name, str(os.getuid()))
    for line in file.read_text().splitlines():
        owner, _, rest = line.partition(":")
        if owner in me:
            first, count = rest.split(":")
            return int(first), int(count)
    print(f"{file} has no range for {me[0]}", file=sys.stderr)
    sys.exit(125)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
