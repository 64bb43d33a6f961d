"""Pebble, the ACME test server of Let's Encrypt, with a name server that answers 127.0.0.1.

Source: its README. It refuses one nonce in twenty by default, and waits before it validates; both
are off here, so that a test takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from mlflow_image.server.local import free_port
from tests.peers import go_program, process
from tests.peers.authority import Authority
from tests.peers.s3 import HOST

MODULE = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3"
NAMES_MODULE = "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.3"
#: An authority refuses some names by policy.
BLOCKED = "blocked.example.com"
#: So short that certbot, which renews a month before the end, renews at every run.
VALID_DAYS = 20
VARIABLES = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}


@dataclass(frozen=True)
class Pebble:
    """A running authority. ca: of its own server, not of what it issues."""

    port: int
    management_port: int
    http_port: int
    ca: str
    folder: Path

    @property
    def directory_url(self) -> str:
        return f"https://{HOST}:{self.port}/dir"

    def root(self) -> Path:
        """The file of the authority that signs what it issues; another one after each start."""
        asked = f"https://localhost:{self.management_port}/roots/0"
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(self.folder / "server-ca.pem")
            (self.folder / "root.pem").write_text(session.get(asked, timeout=20).text)
        return self.folder / "root.pem"


def programs() -> tuple[Path, Path] | None:
    """Both programs, built if need be; None where they cannot be built."""
    server, names = go_program.built(MODULE), go_program.built(NAMES_MODULE)
    return (server, names) if server and names else None


@contextmanager
def running(folder: Path, authority: Authority, http_port: int) -> Iterator[Pebble]:
    """Run it; it looks for answers to its questions on http_port of 127.0.0.1."""
    found = programs()
    assert found is not None
    server, names = found
    issued = authority.issue(HOST, "localhost")
    ports = [free_port() for _ in range(4)]
    port, management, dns, dns_management = ports
    config = folder / "pebble.json"
    config.write_text(
        json.dumps(
            {
                "pebble": {
                    "listenAddress": f"127.0.0.1:{port}",
                    "managementListenAddress": f"127.0.0.1:{management}",
                    "certificate": str(issued.certificate),
                    "privateKey": str(issued.key),
                    "httpPort": http_port,
                    "tlsPort": 1,
                    "domainBlocklist": [BLOCKED],
                    "retryAfter": {"authz": 1, "order": 1},
                    "profiles": {
                        "default": {
                            "description": "short",
                            "validityPeriod": VALID_DAYS * 24 * 3600,
                        }
                    },
                }
            }
        )
    )
    name_server = [
        *(names, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""),
        *("-tlsalpn01", "", "-doh", "", "-dnsserver", f"127.0.0.1:{dns}"),
        *("-management", f"127.0.0.1:{dns_management}"),
    ]
    words = [server, "-config", config, "-dnsserver", f"127.0.0.1:{dns}"]
    with (
        process.running(name_server, dns_management, folder / "names.log"),
        process.running(words, port, folder / "pebble.log", VARIABLES),
    ):
        ca = authority.certificate.read_text()
        (folder / "server-ca.pem").write_text(ca)
        yield Pebble(port, management, http_port, ca, folder)
