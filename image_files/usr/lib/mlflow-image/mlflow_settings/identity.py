"""The certificate that nginx shows: the operator's, an authority's, or one that the machine makes.

The machine's own authority lives for ten years, so that clients need its certificate once; what it
signs is renewed by the month. Made with the `openssl` program: the machine's Python cannot sign.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mlflow_settings import files, proxy
from mlflow_settings.blocks import certificate, hosts
from mlflow_settings.blocks.block import Machine
from mlflow_settings.blocks.tls import Acme, Files, Tls
from mlflow_settings.memory import STATE
from mlflow_settings.proxy import Identity

OPENSSL = "/usr/bin/openssl"
#: Where certbot keeps what an authority has issued; its name for that is the last part.
ISSUED = Path(f"{proxy.ACME}/config/live/mlflow".lstrip("/"))
_AUTHORITY_DAYS = 3650
# Browsers accept no certificate for longer (CA/Browser Forum, Baseline Requirements 6.3.2).
_DAYS = 397
_RENEW_BEFORE_S = 30 * 24 * 3600
_ALWAYS = ("localhost", "127.0.0.1", "::1")
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def ensure(root: Path, tls: Tls, machine: Machine) -> Identity | None:
    """The identity that these settings ask for; None without TLS. Raises OSError.

    tls: with its texts, as read on the machine.
    """
    way = tls.way
    if way is None:
        return None
    if isinstance(way, Files):
        return Identity(_ended(str(way.certificate)), _ended(str(way.key)))
    if isinstance(way, Acme) and (issued := _issued(root / ISSUED, way.names)):
        return issued
    return _made(root / STATE / "tls", _names(way.names, machine))


def _issued(folder: Path, names: Sequence[str]) -> Identity | None:
    """What an authority has issued for all these names, if it can be used."""
    try:
        chain, key = ((folder / name).read_text() for name in ("fullchain.pem", "privkey.pem"))
    except OSError:
        return None
    if certificate.chain_fault(chain) or certificate.pair_fault(chain, key):
        return None
    found = certificate.names_of(certificate.decoded(chain))
    usable = all(certificate.covers(found, name) for name in names)
    return Identity(chain, key) if usable and not certificate.time_fault(chain) else None


def _made(folder: Path, names: Sequence[str]) -> Identity:
    """One of the machine's own authority; both are made when they are missing or too old."""
    files.ensure_directory(folder.parent, 0o700)
    files.ensure_directory(folder, 0o700)
    ca, ca_key = folder / "ca.pem", folder / "ca-key.pem"
    chain, key = folder / "certificate.pem", folder / "key.pem"
    if not (_lives_on(ca) and ca_key.exists()):
        _sign(
            ca,
            ca_key,
            ("-days", str(_AUTHORITY_DAYS), "-subj", f"/CN=mlflow-image of {_host()}"[:60]),
            ("basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign"),
        )
        chain.unlink(missing_ok=True)
    if not (_lives_on(chain) and key.exists() and set(_names_in(chain)) == set(names)):
        listed = ",".join(f"{'IP' if hosts.is_address(one) else 'DNS'}:{one}" for one in names)
        _sign(
            chain,
            key,
            (
                "-days",
                str(_DAYS),
                "-subj",
                "/CN=mlflow-image",
                "-CA",
                str(ca),
                "-CAkey",
                str(ca_key),
            ),
            (
                f"subjectAltName={listed}",
                "basicConstraints=critical,CA:FALSE",
                "keyUsage=critical,digitalSignature",
                "extendedKeyUsage=serverAuth",
            ),
        )
    return Identity(chain.read_text(), key.read_text(), ca.read_text())


def _sign(target: Path, key: Path, words: Sequence[str], extensions: Sequence[str]) -> None:
    """Make a key and a certificate, the certificate last. Raises OSError."""
    fresh, fresh_key = (one.with_name(f".{one.name}.new") for one in (target, key))
    more = [word for one in extensions for word in ("-addext", one)]
    request = [OPENSSL, "req", "-x509", "-new", *_NEW_KEY, "-sha256", "-batch", *words, *more]
    done = subprocess.run(
        [*request, "-config", "/dev/null", "-keyout", str(fresh_key), "-out", str(fresh)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"openssl could not make a certificate: {last}")
    for file, final, mode in ((fresh_key, key, 0o600), (fresh, target, 0o644)):
        file.chmod(mode)
        file.replace(final)


def _names(given: Sequence[str], machine: Machine) -> tuple[str, ...]:
    own = (*given, *machine.addresses, _host(), *_ALWAYS)
    return tuple(dict.fromkeys(one.strip("[]") for one in own if one))


def _host() -> str:
    return socket.gethostname().lower()


def _names_in(chain: Path) -> tuple[str, ...]:
    return certificate.names_of(certificate.decoded(chain.read_text()))


def _lives_on(chain: Path) -> bool:
    """Whether a certificate is there and will be valid for a month."""
    try:
        text = chain.read_text()
        return not certificate.time_fault(text, time.time() + _RENEW_BEFORE_S)
    except (OSError, ssl.SSLError, ValueError):
        return False


def _ended(text: str) -> str:
    return text.strip() + "\n"
