"""TLS: whether the server's certificate is one that MLflow's client accepts, and if not, why."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from client_check import network
from client_check.network import LIMIT_S, Target
from client_check.report import Fault, OutOfDate

#: OpenSSL's numbers of what can be wrong with a certificate (x509_vfy.h).
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_SELF_SIGNED = (18, 19)
_UNKNOWN_ISSUER = (*_SELF_SIGNED, 2, 20, 21)
_OF_MACHINE = "`sudo cat /run/mlflow-proxy/ca.pem` on the server shows its machine's own"


def authorities(variables: tuple[str, ...]) -> tuple[str, str]:
    """(variable, file) of the CA certificates that requests takes; "" for those of Python."""
    for name in variables:
        if value := os.environ.get(name, ""):
            return name, value
    return "", ""


def context(variables: tuple[str, ...]) -> ssl.SSLContext:
    """As strict as urllib3: since Python 3.13, incomplete CA certificates are refused."""
    name, file = authorities(variables)
    if not file:
        found = importlib.util.find_spec("certifi")
        if not found or not found.origin:
            return ssl.create_default_context()
        return ssl.create_default_context(cafile=str(Path(found.origin).with_name("cacert.pem")))
    try:
        if Path(file).is_dir():
            return ssl.create_default_context(capath=file)
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise Fault(
            f"{name} names {file}, which cannot be read as certificates ({error})",
            "copy the kit's CA certificate again: a PEM file, with its BEGIN and END lines",
        ) from error


@contextlib.contextmanager
def connected(goal: Target, trust: ssl.SSLContext | None) -> Iterator[socket.socket]:
    """A connection that is ready for HTTP; raises OSError for a failed handshake."""
    with network.connect(goal) as plain:
        plain.settimeout(LIMIT_S)
        if goal.scheme != "https":
            yield plain
            return
        with (trust or ssl.create_default_context()).wrap_socket(
            plain, server_hostname=goal.host
        ) as secure:
            yield secure


def check(goal: Target, variables: tuple[str, ...]) -> str:
    """One handshake, with a cause and a remedy when it fails. variables: that name the CA."""
    trust = context(variables)
    try:
        with connected(goal, trust) as made:
            return f"the certificate is valid until {_end(made)}"
    except ssl.SSLCertVerificationError as error:
        raise _refused(goal, variables, error) from error
    except ssl.SSLError as error:
        raise _no_handshake(goal, error) from error
    except OSError as error:
        raise Fault(
            f"the connection ends during the TLS handshake ({type(error).__name__})",
            "ask for a firewall or a proxy between this machine and the server",
        ) from error


def _no_handshake(goal: Target, error: ssl.SSLError) -> Fault:
    text = str(error)
    if any(word in text.upper() for word in ("WRONG_VERSION_NUMBER", "RECORD LAYER", "HTTP_REQ")):
        return Fault(
            f"{goal.host} port {goal.port} does not speak TLS",
            f"write http:// in {goal.variable}, or the port of HTTPS",
        )
    return Fault(
        f"the TLS handshake fails ({error.reason or text})",
        "the server and this Python have no TLS version or cipher in common: update the older one",
    )


def _refused(
    goal: Target, variables: tuple[str, ...], error: ssl.SSLCertVerificationError
) -> Fault:
    code, said = error.verify_code, error.verify_message.rstrip(".")
    name, file = authorities(variables)
    if code in (_NOT_YET, _EXPIRED):
        state = "has expired" if code == _EXPIRED else "is not valid yet"
        return OutOfDate(f"the certificate of {goal.host} {state}", "renew it on the server")
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        names = _names(goal, variables)
        return Fault(
            f"the certificate is not for {goal.host}" + (f", but for {names}" if names else ""),
            f"use one of its names in {goal.variable}, or let the server have this name, too",
        )
    if code not in _UNKNOWN_ISSUER and _passes(goal, _lax(variables)):
        return Fault(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} refuses the CA's certificate, "
            f"which is incomplete ({said})",
            "issue it again with Subject and Authority Key Identifier and Key Usage, "
            "or use Python 3.12 until then",
        )
    if name:
        return Fault(
            f"the certificate is not signed by a CA in {file} ({said})",
            f"put the CA's certificate there ({_OF_MACHINE}), or ask for a new kit",
        )
    if importlib.util.find_spec("certifi") and _passes(goal, ssl.create_default_context()):
        paths = ssl.get_default_verify_paths()
        file = os.environ.get(paths.openssl_cafile_env) or paths.cafile or paths.openssl_cafile
        return Fault(
            "the CA is known to this system, but not to Python's requests, which MLflow uses",
            f"export REQUESTS_CA_BUNDLE={file}",
        )
    return Fault(
        f"the certificate is not signed by a public CA ({said})",
        f"set {variables[0]} to a file with the CA's certificate: {_OF_MACHINE}",
    )


def _lax(variables: tuple[str, ...]) -> ssl.SSLContext:
    made = context(variables)
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return made


def _passes(goal: Target, trust: ssl.SSLContext) -> bool:
    try:
        with connected(goal, trust):
            return True
    except (OSError, Fault):
        return False


def unverified() -> ssl.SSLContext:
    """For questions whose answer is no secret, and is trusted in nothing."""
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def speaks(goal: Target) -> bool:
    """Whether a port speaks TLS at all."""
    with contextlib.suppress(OSError, Fault), network.connect(goal) as plain:
        plain.settimeout(LIMIT_S)
        with unverified().wrap_socket(plain, server_hostname=goal.host):
            return True
    return False


def _names(goal: Target, variables: tuple[str, ...]) -> str:
    """The names in a certificate that is for another name."""
    made = context(variables)
    made.check_hostname = False
    with contextlib.suppress(OSError, Fault), connected(goal, made) as secure:
        found = _shown(secure).get("subjectAltName", ())
        return ", ".join(str(one[1]) for one in found[:5])
    return ""


def _shown(made: socket.socket) -> Mapping[str, Any]:
    """What a verified certificate says."""
    return (made.getpeercert() if isinstance(made, ssl.SSLSocket) else None) or {}


def _end(made: socket.socket) -> str:
    """The day on which a certificate ends."""
    words = str(_shown(made).get("notAfter", "")).split()
    return " ".join((words[1], words[0], words[3])) if len(words) > 3 else "an unknown day"
