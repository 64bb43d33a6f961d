"""Whether a TCP port can be reached: the faults that every kind of store has in common."""

from __future__ import annotations

import socket

CONNECT_S = 10.0


def trouble(host: str, port: int, setting: str) -> str:
    """Why host:port cannot be reached, with a remedy; "" when it can.

    setting: the key that names the host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"the name {host} does not resolve; correct {setting}, or the machine's DNS"
    why = ""
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(CONNECT_S)
                connection.connect(address)
                return ""
        except TimeoutError:
            why = "does not answer; check its firewall and security groups"
        except ConnectionRefusedError:
            why = "refuses the connection: nothing listens there; check the port and the service"
        except OSError as error:
            why = f"cannot be reached ({error.strerror}); check the machine's network"
    return f"{host} port {port} {why}"
