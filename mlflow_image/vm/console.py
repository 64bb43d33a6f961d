"""The guest's serial console: how far the boot has come, what went wrong, and a way to type."""

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

#: What a console shows when the boot enters a stage; the last stage found is where it is.
STAGES = (
    ("the firmware", r""),
    ("the boot loader", r"GRUB|Booting from Hard Disk|BdsDxe: starting"),
    ("the kernel", r"Linux version |\] Command line: |EFI stub: "),
    ("systemd", r"systemd\[1\]: |Welcome to .*!"),
    ("cloud-init", r"cloud-init\[\d+\]: |Cloud-init v"),
    ("MLflow", r"mlflow-configure|mlflow-tracking|MLflow [Tt]racking"),
)

#: Both lines come through the journal, which puts a time, a name and a pid before them.
READY = re.compile(r"\bmlflow-ready (https?://\S+)")
CONFIGURE = re.compile(r"^.*?\bmlflow-configure: (.*)$", re.MULTILINE)

#: How the image's configuration service begins its verdict when no settings are in force.
NO_SERVER = "the server does not start"

#: Endings of a boot from which the guest does not come back by itself.
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
    """A boot that cannot get ready any more: in a sentence, and the guest's own lines."""

    what: str
    evidence: str


def read(directory: Path, offset: int = 0) -> str:
    """The console's text from a byte offset on, without escape sequences and carriage returns."""
    try:
        with (directory / CONSOLE_LOG).open("rb") as file:
            file.seek(offset)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return clean(text)


def size_bytes(directory: Path) -> int:
    """How much the console has printed since the VM was made."""
    try:
        return (directory / CONSOLE_LOG).stat().st_size
    except FileNotFoundError:
        return 0


def clean(text: str) -> str:
    """Text as a person would have read it: no escape sequences, plain line ends."""
    return _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def stage(text: str) -> str:
    """How far the boot has come, in words that follow "waiting for"."""
    reached = STAGES[0][0]
    for name, pattern in STAGES[1:]:
        if re.search(pattern, text):
            reached = name
    return reached


def ready_url(text: str) -> str | None:
    """The address that the guest says its server is ready at, or None."""
    found = READY.findall(text)
    return found[-1] if found else None


def refused_settings(text: str) -> list[str]:
    """The guest's lines when its settings keep the server from starting; empty when they do not.

    Refused settings alone are no such case: with earlier good ones the server starts.
    """
    lines = list(dict.fromkeys(CONFIGURE.findall(text)))
    return lines if any(line.startswith(NO_SERVER) for line in lines) else []


def dead_end(text: str) -> DeadEnd | None:
    """Why this boot will never get ready, with the guest's lines around the first sign of it."""
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
    """The console's lines from the beginning, then those that come, while `go_on` says so."""
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
    """Join this terminal to the VM's serial console until Ctrl-] is typed or the VM ends.

    Raises Failure when the VM does not run or this is no terminal.
    """
    if not sys.stdin.isatty():
        raise Failure(
            "the console needs a terminal", remedy=f"read {directory / CONSOLE_LOG} instead"
        )
    with socket.socket(socket.AF_UNIX) as line:
        try:
            with short_path(directory, CONSOLE_SOCKET) as address:
                line.connect(address)
        except OSError as error:
            raise Failure(f"the VM's console does not answer: {error.strerror}") from error
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        try:
            tty.setraw(terminal)
            relay(line, terminal, sys.stdout.fileno())
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def relay(line: socket.socket, typed: int, shown: int) -> None:
    """Pass bytes both ways until LEAVE is typed or either side ends."""
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
