"""Host names and origins: what may be listed, and what MLflow must be told for it to work.

MLflow compares the whole Host header literally, port included; only entries with a `*` are
patterns (fnmatch). A list of ours replaces its defaults. And it refuses a browser's POST unless
the page's origin is listed, even when that page is its own: source: mlflow/server/security_utils.py
of 3.17.2. So one name in the settings becomes several entries here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from mlflow_settings.wording import shown

Worded = tuple[str, str]

# MLflow's own defaults (get_default_allowed_hosts); a system test compares them. "[[]" is
# fnmatch's way to write a literal "[".
DEFAULT_ALLOWED_HOSTS = (
    *("localhost", "127.0.0.1", "[::1]", "0.0.0.0"),  # noqa: S104 - names, not a binding
    *("localhost:*", "127.0.0.1:*", "[[]::1]:*", "0.0.0.0:*"),
    *("192.168.*", "10.*", *(f"172.{second}.*" for second in range(16, 32))),
    *("fc00:*", "fd00:*"),
)

_NAME = r"[A-Za-z0-9*]([A-Za-z0-9._*-]*[A-Za-z0-9*])?"
_HOST = re.compile(rf"(?P<name>{_NAME}|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{{1,5}}))?")
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<rest>[^/]+)", re.IGNORECASE)


def listening_address_fault(text: str) -> Worded | None:
    """Whether `text` is an IP address to listen on."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return f"is {shown(text)}, not an IP address", 'write "0.0.0.0" to listen on every address'
    return None


def allowed_host_fault(text: str) -> Worded | None:
    """Whether `text` is a host name or address, with or without a port."""
    if "://" in text:
        return f"is {shown(text)}, an address with a scheme", "list only the host's name"
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        pass
    else:
        return f"is {shown(text)}, an IPv6 address without brackets", f'write "[{text}]"'
    match = _HOST.fullmatch(text)
    if not match or not _port_is_sound(match["port"]):
        return f"is {shown(text)}, not a host name", "write a name such as mlflow.example.com"
    return None


def allowed_origin_fault(text: str) -> Worded | None:
    """Whether `text` is one origin: scheme, host, perhaps a port.

    A pattern is refused although MLflow takes one: its CORS library reads it as a regular
    expression that matches a beginning, so https://*.example.com would let in
    https://x.example.com.elsewhere.org.
    """
    if text == "*":
        return None
    if "*" in text:
        return f"is {shown(text)}, a pattern", "list each origin by itself"
    match = _ORIGIN.fullmatch(text)
    if not match or allowed_host_fault(match["rest"]):
        example = "write scheme and host, such as https://tools.example.com, and no path"
        return f"is {shown(text)}, not an origin", example
    return None


def host_entries(names: Iterable[str]) -> list[str]:
    """MLflow's list of allowed hosts: its defaults, and each name with and without a port."""
    entries = list(DEFAULT_ALLOWED_HOSTS)
    for name in names:
        match = _HOST.fullmatch(name)
        entries.append(name)
        if name != "*" and match and not match["port"]:
            entries.append(name.replace("[", "[[]", 1) + ":*")
    return list(dict.fromkeys(entries))


def origin_entries(names: Iterable[str], origins: Iterable[str], port: int) -> list[str]:
    """MLflow's list of allowed origins: the listed ones, and the server's own pages.

    names: the host names whose pages are the server's own; patterns give no origin.
    """
    entries = list(origins)
    for name in names:
        match = _HOST.fullmatch(name)
        if not match or "*" in name:
            continue
        entries += [f"http://{name}", f"https://{name}"]
        if not match["port"]:
            entries.append(f"http://{name}:{port}")
    return list(dict.fromkeys(entries))


def _port_is_sound(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65535
