"""Which Host headers and which origins the server accepts, more strictly than MLflow.

MLflow accepts a private address by patterns such as `10.*`, which also match 10.evil.example, a
name that anyone can register. It compares names with their case, and the origin only below /api/
and /ajax-api/: a foreign page could call /graphql and the gateway through a visitor's browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from mlflow_launch import mlflow_names

#: RFC 1918 and RFC 4193: the ranges that MLflow's own patterns mean.
PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


def mend(module: Any) -> None:
    """Make MLflow's checks of a request stricter. module: one of mlflow_names.SECURITY."""
    listed = getattr(module, mlflow_names.HOST_CHECK)
    is_exempt = getattr(module, mlflow_names.EXEMPT_CHECK)

    def is_allowed_host(allowed_hosts: Iterable[str], host: str | None) -> bool:
        # The settings have written their names in lower case (mlflow_settings/blocks/hosts.py).
        host = (host or "").lower()
        return bool(listed(allowed_hosts, host)) or is_private_address(host)

    def checks_origin(path: str) -> bool:
        return not is_exempt(path)

    setattr(module, mlflow_names.HOST_CHECK, is_allowed_host)
    setattr(module, mlflow_names.ORIGIN_CHECK, checks_origin)


def is_private_address(host: str) -> bool:
    """Whether a Host header is a private IP address, with or without a port.

    An address cannot be rebound to another machine, as a name can; brackets enclose IPv6.
    """
    text, separator, port = host.rpartition(":")
    if not separator or "]" in port:
        text, port = host, ""
    if port and not (port.isascii() and port.isdigit()):
        return False
    if text.startswith("[") != text.endswith("]"):
        return False
    bracketed = text.startswith("[")
    try:
        address = ipaddress.ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        return False
    return bracketed == (address.version == 6) and any(
        address in network for network in PRIVATE if network.version == address.version
    )
