"""Host names and origins: which ones the settings may list, and MLflow's entries for them.

MLflow compares the whole Host header literally, including the port; only entries with a `*` are
patterns (fnmatch). A configured list replaces MLflow's defaults. MLflow also refuses a browser's
POST unless the page's origin is listed, even for its own pages. So one name in the settings
becomes several entries here. Source: mlflow/server/security_utils.py of 3.17.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from mlflow_settings.wording import Reason, shown

# MLflow's own defaults (get_default_allowed_hosts) without its patterns for private addresses, as
# these also match names such as 10.evil.example: mlflow_launch/guards/doors.py accepts the
# addresses. A system test compares the lists. "[[]" is a literal "[" in fnmatch.
DEFAULT_ALLOWED_HOSTS = (
    *("localhost", "127.0.0.1", "[::1]", "0.0.0.0"),  # noqa: S104 - names, not a binding
    *("localhost:*", "127.0.0.1:*", "[[]::1]:*", "0.0.0.0:*"),
)

_NAME = r"[A-Za-z0-9*]([A-Za-z0-9._*-]*[A-Za-z0-9*])?"
_HOST = re.compile(rf"(?P<name>{_NAME}|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{{1,5}}))?")
_SCOPE = re.compile(r"[A-Za-z0-9._-]{1,15}")  # of a network card (linux/if.h)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<rest>[^/]+)", re.IGNORECASE)


def listening_address_fault(text: str) -> Reason | None:
    """Why `text` is not an IP address to listen on, or None."""
    try:
        scope = getattr(ipaddress.ip_address(text), "scope_id", None) or ""
    except ValueError:
        remedy = 'write "0.0.0.0" to listen on every address'
        return Reason(f"is {shown(text)}, not an IP address", remedy)
    if scope and not _SCOPE.fullmatch(scope):
        remedy = "write the network card's name after %, such as fe80::1%ens3"
        return Reason(f"is {shown(text)}, an address with an unusual scope", remedy)
    return None


def allowed_host_fault(text: str) -> Reason | None:
    """Why `text` is not a host name or address, with or without a port, or None."""
    if "://" in text:
        return Reason(f"is {shown(text)}, a URL", "write only the host name")
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        pass
    else:
        return Reason(f"is {shown(text)}, an IPv6 address without brackets", f'write "[{text}]"')
    match = _HOST.fullmatch(text)
    if not match or not _port_is_valid(match["port"]):
        remedy = "write a name such as mlflow.example.com"
        return Reason(f"is {shown(text)}, not a host name", remedy)
    return None


def allowed_origin_fault(text: str) -> Reason | None:
    """Why `text` is not an origin (scheme, host, optional port), or None.

    Patterns are refused although MLflow accepts them: its CORS library treats them as regular
    expressions that match a prefix, so https://*.example.com would also accept
    https://x.example.com.elsewhere.org.
    """
    if text == "*":
        return None
    if "*" in text:
        return Reason(f"is {shown(text)}, a pattern", "list each origin separately")
    match = _ORIGIN.fullmatch(text)
    if not match or allowed_host_fault(match["rest"]):
        remedy = "write scheme and host, such as https://tools.example.com, and no path"
        return Reason(f"is {shown(text)}, not an origin", remedy)
    return None


def proxy_fault(text: str) -> Reason | None:
    """Why `text` is not the address of a proxy, or a network of them, or None."""
    try:
        network = ipaddress.ip_network(text)
        # The zone of an IPv6 address may be any text, and means nothing to nginx.
        if "%" in text:
            raise ValueError(text)
    except ValueError:
        remedy = "write an address such as 10.0.0.5, or a network such as 10.0.0.0/24"
        return Reason(f"is {shown(text)}, not an IP address or network", remedy)
    if network.prefixlen == 0:
        remedy = "list the balancers: otherwise every client says where it comes from"
        return Reason(f"is {shown(text)}, every address", remedy)
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
    """MLflow's list of allowed origins: the given ones, and those of the server's own pages.

    names: the host names of the server's own pages; patterns are ignored.
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


def public(host: str, addresses: Iterable[str]) -> str:
    """The first address of the internet that a server listens on, or "".

    host: where it listens. addresses: the machine's own.
    """
    listening = ipaddress.ip_address(host)
    own = map(ipaddress.ip_address, addresses) if listening.is_unspecified else [listening]
    # 0.0.0.0 means every IPv4 address, :: every address (ipv6(7), IPV6_V6ONLY).
    reached = (one for one in own if one.is_global and listening.version in (6, one.version))
    return next(map(str, reached), "")


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def may_be_public(host: str) -> bool:
    """Whether a server that listens on this address may be reached from the internet."""
    listening = ipaddress.ip_address(host)
    return listening.is_unspecified or listening.is_global


def in_url(address: str) -> str:
    """An IP address as the host of a URL."""
    return f"[{address}]" if ":" in address else address


def _port_is_valid(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65535
