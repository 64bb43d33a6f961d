"""Names, ports and proxies: how far a connection to a server gets."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import socket
import urllib.request
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from client_check.report import Fault

#: Seconds that a server may take for each step.
LIMIT_S = float(os.environ.get("CLIENT_CHECK_TIMEOUT_S", "8"))
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Target:
    """A server. prefix: of its paths. proxy: what requests to it go through, or ""."""

    scheme: str
    host: str
    port: int
    prefix: str
    proxy: str
    #: What the user set: what to correct when the address is wrong.
    variable: str

    @property
    def netloc(self) -> str:
        """The Host header, as requests sends it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def shown_proxy(self) -> str:
        """The proxy without its password."""
        parts = urlsplit(self.proxy)
        return f"{parts.scheme}://{parts.hostname}:{_port(parts)}"


def target(url: str, variable: str) -> Target:
    """The server of a URL, and the proxy that requests takes for it."""
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    host = parts.hostname or ""
    proxy = "" if _bypasses(host, port) else _proxy(parts.scheme)
    return Target(parts.scheme, host, port, parts.path.rstrip("/"), proxy, variable)


def _proxy(scheme: str) -> str:
    found = urllib.request.getproxies()
    proxy = found.get(scheme) or found.get("all") or ""
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def _bypasses(host: str, port: int) -> bool:
    """Whether NO_PROXY names the host; requests knows networks there, too."""
    if urllib.request.proxy_bypass(host) or urllib.request.proxy_bypass(f"{host}:{port}"):
        return True
    entries = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in entries.split(","):
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS.get(parts.scheme, 1080)


def resolve(goal: Target) -> str:
    """What the name is; the proxy's, where there is one, because it resolves the other."""
    host, port, variable = goal.host, goal.port, goal.variable
    if goal.proxy:
        parts = urlsplit(goal.proxy)
        host, port, variable = parts.hostname or "", _port(parts), _variable(goal)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Fault(
            f"the name {host} does not resolve ({_reason(error)})",
            f"correct {variable}, or this machine's DNS or /etc/hosts; is a VPN needed?",
        ) from error
    addresses = sorted({str(one[4][0]) for one in found})
    return f"{host} is {', '.join(addresses)}" + (" (a proxy)" if goal.proxy else "")


def connect(goal: Target) -> socket.socket:
    """A connection to the server, through its proxy where there is one."""
    if not goal.proxy:
        return _open(goal.host, goal.port, goal.variable)
    parts = urlsplit(goal.proxy)
    if not parts.scheme.startswith("http"):
        raise Fault(f"{goal.shown_proxy} is a proxy that this check does not know", around(goal))
    try:
        made = _open(parts.hostname or "", _port(parts), _variable(goal))
    except Fault as fault:
        raise Fault(f"the proxy {goal.shown_proxy}: {fault.what}", around(goal)) from fault
    if goal.scheme == "https":
        _tunnel(made, goal)
    return made


def _tunnel(made: socket.socket, goal: Target) -> None:
    """Ask a proxy for a connection to the server."""
    place = f"{goal.host}:{goal.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", *proxy_headers(goal)]
    answer = b""
    try:
        made.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        while b"\r\n\r\n" not in answer and len(answer) < 65536:
            part = made.recv(1)
            if not part:
                break
            answer += part
    except OSError as error:
        raise Fault(
            f"the proxy {goal.shown_proxy} does not answer ({_reason(error)})", around(goal)
        ) from error
    status = answer.split(b"\r\n")[0].decode("latin-1")
    if " 200" not in status:
        shown = status.partition(" ")[2] or "nothing"
        raise Fault(
            f"the proxy {goal.shown_proxy} answers {shown!r} for {place}: the server is not asked",
            around(goal),
        )


def proxy_headers(goal: Target) -> list[str]:
    """How a proxy with a password is asked."""
    parts = urlsplit(goal.proxy)
    if not parts.username:
        return []
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}"]


def around(goal: Target) -> str:
    """What to do about a proxy in the way."""
    try:
        socket.create_connection((goal.host, goal.port), timeout=2).close()
        direct = "the server can be reached without it: "
    except (OSError, UnicodeError):
        direct = "if the server is in your own network: "
    return f"{direct}export NO_PROXY={goal.host}"


def _variable(goal: Target) -> str:
    """The variable that names the proxy."""
    names = (f"{goal.scheme}_proxy", f"{goal.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), names[1])


def _open(host: str, port: int, variable: str) -> socket.socket:
    place = f"{host} port {port}"
    try:
        return socket.create_connection((host, port), timeout=LIMIT_S)
    except ConnectionRefusedError as error:
        raise Fault(
            f"{place} refuses the connection: nothing listens there",
            f"correct the port in {variable}, or start the server",
        ) from error
    except socket.timeout as error:
        raise Fault(
            f"{place} does not answer within {LIMIT_S:g} s",
            "is a VPN needed? else ask for the firewall: the port must be open to this machine",
        ) from error
    except (OSError, UnicodeError) as error:
        raise Fault(
            f"{place} cannot be reached ({_reason(error)})", "check this machine's network and VPN"
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
