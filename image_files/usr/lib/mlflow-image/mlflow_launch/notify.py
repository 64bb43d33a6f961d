"""Tells systemd how far the server is (sd_notify(3)); does nothing when nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket


def ready() -> None:
    """The server answers: units that are ordered after this one may start."""
    _send("READY=1\nSTATUS=serving")


def stopping() -> None:
    """The server is on its way down."""
    _send("STOPPING=1\nSTATUS=finishing requests")


def status(text: str) -> None:
    """What `systemctl status` shows."""
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
