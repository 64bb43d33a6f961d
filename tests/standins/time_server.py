"""A stand-in for a public time server: SNTP (RFC 4330) with this host's time, on loopback.

A VM with a user network reaches it as 10.0.2.2.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PORT = 123
#: Seconds from 1900, where NTP's time starts, to 1970.
NTP_EPOCH = 2_208_988_800
SERVER_MODE = 0b00_100_100  # no leap second, version 4, mode 4


def ntp_time() -> int:
    """The time as NTP's 64 bits: seconds since 1900 and their fraction."""
    return int((time.time() + NTP_EPOCH) * 2**32)


def answer(request: bytes) -> bytes:
    """The answer to a client's request of at least 48 bytes."""
    received = ntp_time()
    originate = request[40:48]  # the client's transmit time
    head = struct.pack(">BBbbII4sQ", SERVER_MODE, 1, 4, -20, 0, 0, b"TEST", received)
    return head + originate + struct.pack(">QQ", received, ntp_time())


@contextmanager
def serving() -> Iterator[list[bytes]]:
    """Serve on 127.0.0.1:123; yields the requests so far. PermissionError unless run by root."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", PORT))

        def serve() -> None:
            while True:
                request, client = server.recvfrom(1024)
                if len(request) < 48:
                    return
                requests.append(request)
                server.sendto(answer(request), client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield requests
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", ("127.0.0.1", PORT))
            thread.join()
