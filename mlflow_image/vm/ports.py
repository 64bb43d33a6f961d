"""Ports on 127.0.0.1: is one free, who holds it, which ones did QEMU forward."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping

import psutil

from mlflow_image.errors import Refusal


def why_unusable(port: int) -> str:
    """Why a port cannot be listened on at 127.0.0.1, naming who holds it; empty when it can."""
    if not 1 <= port <= 65535:
        return f"port {port} is out of range (1-65535)"
    with socket.socket() as probe:
        # As QEMU does: connections in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} is in use{holder(port)}"
            return f"port {port} cannot be used: {error.strerror}"
    return ""


def holder(port: int) -> str:
    """ " by NAME (pid N)" for who listens on a port; empty when this user may not know."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.pid
            if listens and connection.laddr and connection.laddr.port == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def choose(wished: Mapping[int, int], last: Mapping[int, int]) -> dict[int, int]:
    """Guest port -> the port to ask for: the wished one, else the last one if free, else 0.

    Raises Refusal naming a wished port that is in use, and by whom.
    """
    chosen = {}
    for guest, port in wished.items():
        if port and (problem := why_unusable(port)):
            raise Refusal(problem, remedy="end that program, or choose another port")
        before = last.get(guest, 0)
        chosen[guest] = port or (before if before and not why_unusable(before) else 0)
    return chosen


def forwarded(usernet: str) -> dict[int, int]:
    """Guest port -> host port, from what QEMU's `info usernet` prints.

    Its rows: protocol[state], descriptor, source address, port, destination, port, ...
    """
    rows = re.findall(
        r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", usernet, re.MULTILINE
    )
    return {int(guest): int(host) for host, guest in rows}
