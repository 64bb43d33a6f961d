"""The settings of cloud-init/pair-postgresql-s3.yaml for servers behind a HAProxy of ours."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.peers import haproxy
from tests.peers.authority import Authority
from tests.peers.haproxy import Balancer
from tests.peers.stores import Stores

EXAMPLE = "pair-postgresql-s3.yaml"
USER, PASSWORD = "ana", "canary-of-ana-with-two-servers"
ADMIN_PASSWORD = "canary-of-the-pair-s-administrator"
BALANCER_PASSWORD = "canary-of-the-balancer-0f1e2d"


@dataclass(frozen=True)
class Identity:
    """An authority, and the certificate that it has signed for the servers."""

    authority: Authority
    certificate: str
    key: str

    @classmethod
    def made(cls, folder: Path) -> Identity:
        authority = Authority(folder)
        issued = authority.issue(haproxy.SERVER_NAME, "localhost")
        return cls(authority, issued.certificate.read_text(), issued.key.read_text())


def settings(stores: Stores, identity: Identity, balancer: str) -> str:
    """The example's settings with its values. balancer: from where HAProxy's requests come."""
    margin = " " * 6
    return stores.settings(
        EXAMPLE,
        **{
            "BALANCER_ADDRESS": balancer,
            "ADMIN_PASSWORD": ADMIN_PASSWORD,
            "BALANCER_PASSWORD": BALANCER_PASSWORD,
            "- {name: balancer": f'- {{name: {USER}, password: "{PASSWORD}"}}\n'
            f"{margin}- {{name: balancer",
            "SERVER_CERTIFICATE": textwrap.indent(identity.certificate.strip(), margin).strip(),
            "SERVER_KEY": textwrap.indent(identity.key.strip(), margin).strip(),
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
