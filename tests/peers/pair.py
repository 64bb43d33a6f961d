"""The settings of cloud-init/pair-postgresql-s3.yaml for servers behind a HAProxy of ours."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from mlflow_image.server import local_balancer
from mlflow_image.server.local_balancer import Balancer
from mlflow_settings.proxy import Identity
from tests.peers.authority import Authority
from tests.peers.stores import Stores

EXAMPLE = "pair-postgresql-s3.yaml"
USER, PASSWORD = "ana", "canary-of-ana-with-two-servers"
ADMIN_PASSWORD = "canary-of-the-pair-s-administrator"
BALANCER_PASSWORD = "canary-of-the-balancer-0f1e2d"


@dataclass(frozen=True)
class Certificates:
    """What the servers show to HAProxy, and HAProxy to clients. ca: has signed both."""

    servers: Identity
    clients: Identity
    ca: Path

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        """Of an authority of its own."""
        authority = Authority(folder)
        ca = authority.certificate.read_text()
        servers, clients = (
            Identity(issued.certificate.read_text(), issued.key.read_text(), ca)
            for issued in (
                authority.issue(local_balancer.SERVER_NAME, "localhost"),
                authority.issue("localhost"),
            )
        )
        return cls(servers, clients, authority.certificate)


def settings(stores: Stores, servers: Identity, balancer: str) -> str:
    """The example's settings with its values.

    servers: their certificate. balancer: from where HAProxy's requests come.
    """
    margin = " " * 6
    return stores.settings(
        EXAMPLE,
        **{
            "BALANCER_ADDRESS": balancer,
            # With metrics the server imports twice, which takes minutes in two emulated VMs.
            "  prometheus: true\n": "",
            "ADMIN_PASSWORD": ADMIN_PASSWORD,
            "BALANCER_PASSWORD": BALANCER_PASSWORD,
            "- {name: balancer": f'- {{name: {USER}, password: "{PASSWORD}"}}\n'
            f"{margin}- {{name: balancer",
            "SERVER_CERTIFICATE": textwrap.indent(servers.chain.strip(), margin).strip(),
            "SERVER_KEY": textwrap.indent(servers.key.strip(), margin).strip(),
        },
    )


def variables(balancer: Balancer) -> Mapping[str, str]:
    """What clients of the pair set."""
    return {
        "MLFLOW_TRACKING_URI": balancer.url,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(balancer.ca),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }


def session(ca: Path, who: tuple[str, str] = (USER, PASSWORD)) -> requests.Session:
    """A client that trusts the authority."""
    found = requests.Session()
    found.trust_env, found.verify, found.auth = False, str(ca), who
    return found
