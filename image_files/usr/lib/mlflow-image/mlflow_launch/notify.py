"""Reports the server's state to systemd (sd_notify(3)); does nothing without NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket


def ready(text: str = "serving") -> None:
    """The server answers: units that are ordered after this one may start."""
    _send(f"READY=1\nSTATUS={text}")


def stopping() -> None:
    """The server is shutting down."""
    _send("STOPPING=1\nSTATUS=finishing requests")


def still_starting(text: str, seconds: float) -> None:
    """The start goes on: systemd waits so much longer for it (sd_notify(3))."""
    _send(f"STATUS={text}\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def status(text: str) -> None:
    """The line that `systemctl status` shows."""
    _send(f"STATUS={text}")


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
        sender.connect(address)
        sender.sendall(message.encode())
