"""Ports on 127.0.0.1: which are free, which program uses one, which ones QEMU forwards."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping

import psutil

from mlflow_image.errors import Refusal


def why_unusable(port: int) -> str:
    """Why we cannot listen on a port of 127.0.0.1, with the program that uses it; else empty."""
    if not 1 <= port <= 65535:
        return f"port {port} is out of range (1-65535)"
    with socket.socket() as probe:
        # QEMU sets it too: connections in TIME_WAIT then do not block the port.
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
    """ " by NAME (pid N)" for the program that listens on a port; empty when not visible to us."""
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.pid
            if listens and connection.laddr and connection.laddr.port == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def choose(wanted: Mapping[int, int], last: Mapping[int, int]) -> dict[int, int]:
    """Guest port -> the port to request: the wanted one, else the last one if free, else 0.

    Raises Refusal for a wanted port that cannot be used, with the program that uses it.
    """
    chosen = {}
    for guest, port in wanted.items():
        if port and (problem := why_unusable(port)):
            raise Refusal(problem, remedy="stop that program, or choose another port")
        before = last.get(guest, 0)
        chosen[guest] = port or (before if before and not why_unusable(before) else 0)
    return chosen


def forwarded(usernet: str) -> dict[int, int]:
    """Guest port -> host port, from the output of QEMU's `info usernet`.

    Each row has: protocol[state], descriptor, source address, port, destination, port, ...
    """
    rows = re.findall(
        r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", usernet, re.MULTILINE
    )
    return {int(guest): int(host) for host, guest in rows}
