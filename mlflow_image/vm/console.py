"""The guest's serial console: boot stages, known failures, an interactive mode."""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.errors import Failure
from mlflow_image.vm.monitor import short_path
from mlflow_image.vm.qemu import CONSOLE_LOG, CONSOLE_SOCKET

FOLLOW_POLL_S = 0.5
LEAVE = b"\x1d"  # Ctrl-]

#: (name, pattern): the console text that shows that the boot has entered a stage.
Stages = tuple[tuple[str, str], ...]
STAGES: Stages = (
    ("the firmware", r""),
    ("the boot loader", r"GRUB|Booting from Hard Disk|BdsDxe: starting"),
    ("the kernel", r"Linux version |\] Command line: |EFI stub: "),
    ("systemd", r"systemd\[1\]: |Welcome to .*!"),
    ("cloud-init", r"cloud-init\[\d+\]: |Cloud-init v"),
)

#: (what happened, pattern): a boot cannot continue after one of these console texts.
DEAD_ENDS = (
    ("the guest's kernel panicked", r"Kernel panic - not syncing"),
    ("the guest's kernel panicked", r"end Kernel panic"),
    ("the guest stopped in emergency mode", r"You are in emergency mode|Give root password for"),
    ("the guest's initramfs found no root filesystem", r"^\(initramfs\)|ALERT! .* does not exist"),
    ("the guest's boot loader failed", r"^grub rescue>|^error: .*\n+Entering rescue mode"),
    ("the firmware found nothing to boot", r"No bootable device|UEFI Interactive Shell"),
    (
        "Secure Boot refused the image's boot loader",
        r"BdsDxe: failed to load .*Access Denied|Security Violation",
    ),
)

_ESCAPES = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[A-Za-z=>])")


@dataclass(frozen=True)
class DeadEnd:
    """Why a boot cannot continue: one sentence, and the guest's console lines as evidence."""

    what: str
    evidence: str


def read(directory: Path, offset: int = 0) -> str:
    """The console's text from a byte offset, without escape sequences and carriage returns."""
    try:
        with (directory / CONSOLE_LOG).open("rb") as file:
            file.seek(offset)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return clean(text)


def size_bytes(directory: Path) -> int:
    """The size of the console's log, which holds all output since the VM was created."""
    try:
        return (directory / CONSOLE_LOG).stat().st_size
    except FileNotFoundError:
        return 0


def clean(text: str) -> str:
    """Remove escape sequences (colours too) and NULs; every line end becomes a line feed."""
    return _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def stage(text: str, stages: Stages = STAGES) -> str:
    """How far the boot has come: the name of the last stage that the text shows."""
    reached = stages[0][0]
    for name, pattern in stages[1:]:
        if re.search(pattern, text):
            reached = name
    return reached


def dead_end(text: str) -> DeadEnd | None:
    """Why this boot cannot continue, with the console lines around the first sign; else None."""
    for what, pattern in DEAD_ENDS:
        if found := re.search(pattern, text, re.MULTILINE):
            before = text[: found.start()].splitlines()[-8:]
            after = text[found.start() :].splitlines()[:12]
            return DeadEnd(what, "\n".join([*before, *after]))
    return None


def last_lines(directory: Path, count: int = 20, offset: int = 0) -> str:
    """The console's last lines that are not empty."""
    lines = [line.rstrip() for line in read(directory, offset).splitlines()]
    return "\n".join([line[:400] for line in lines if line][-count:])


def lines(directory: Path, go_on: Callable[[], bool]) -> Iterator[str]:
    """The console's lines from the beginning, then new ones while `go_on` returns True."""
    offset, rest = 0, ""
    while True:
        last = not go_on()
        end = size_bytes(directory)
        *whole, rest = (rest + read(directory, offset)).split("\n") if end > offset else [rest]
        offset = max(end, offset)
        yield from whole
        if last:
            if rest:
                yield rest
            return
        time.sleep(FOLLOW_POLL_S)


def attach(directory: Path) -> None:
    """Connect this terminal to the VM's serial console until Ctrl-] is typed or the VM ends.

    Raises Failure when the VM is not running or standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise Failure(
            "standard input is not a terminal, which the console needs",
            remedy=f"read {directory / CONSOLE_LOG} instead",
        )
    with socket.socket(socket.AF_UNIX) as line:
        try:
            with short_path(directory, CONSOLE_SOCKET) as address:
                line.connect(address)
        except OSError as error:
            raise Failure(
                f"cannot connect to the VM's console: {error.strerror}",
                remedy="`invoke status` shows whether the VM is running",
            ) from error
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        try:
            tty.setraw(terminal)
            relay(line, terminal, sys.stdout.fileno())
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def relay(line: socket.socket, typed: int, shown: int) -> None:
    """Copy bytes in both directions until LEAVE is typed or either side closes."""
    while True:
        readable, _, _ = select.select([line.fileno(), typed], [], [])
        if line.fileno() in readable:
            printed = line.recv(4096)
            if not printed:
                return
            os.write(shown, printed)
        if typed in readable:
            keys = os.read(typed, 1024)
            before, leave, _ = keys.partition(LEAVE)
            line.sendall(before)
            if leave or not keys:
                return
