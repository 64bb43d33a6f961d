"""The peers as a VM of QEMU's user network sees them."""

from __future__ import annotations

from tests.peers import postgresql, s3

#: This host's loopback.
HOST = "10.0.2.2"
#: For user-data: the names of the peers, as a DNS server would give them.
NAMES = f"\nbootcmd:\n  - echo '{HOST} {postgresql.HOST} {s3.HOST}' >> /etc/hosts\n".encode()
