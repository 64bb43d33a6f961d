"""What every S3 peer has in common: its names, and its address for a host and for a VM."""

from __future__ import annotations

from dataclasses import dataclass

#: The name in the certificates, besides localhost; a VM finds it in its /etc/hosts.
HOST = "s3.peers.test"
BUCKET = "runs"
ACCESS_KEY, SECRET_KEY = "mlflowpeerkey", "canary-s3-7f3a/secret+key"


@dataclass(frozen=True)
class S3:
    """scheme: http or https. ca: the CA's certificate as PEM, or ""."""

    scheme: str
    port: int
    ca: str

    @property
    def url(self) -> str:
        """The address on this host."""
        return f"{self.scheme}://localhost:{self.port}"
