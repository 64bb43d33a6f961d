"""How large user-data may be on each cloud."""

from __future__ import annotations

from collections.abc import Iterator

#: Bytes before any encoding. Sources: the providers' documentation of user-data, EC2 "Instance user
#: data", Azure "Custom data", Google "Custom metadata", OpenStack Nova (65535 bytes as base64),
#: Yandex "VM metadata". A KVM host with a seed disk has no limit.
LIMITS = {
    "AWS": 16_384,
    "OpenStack (VK Cloud)": 49_151,
    "Azure": 65_536,
    "Yandex Cloud and Google": 262_144,
}


def warnings(raw: bytes, *, compressed: bool) -> Iterator[str]:
    """One sentence for each cloud that would refuse user-data of this size."""
    for cloud, limit in LIMITS.items():
        if len(raw) > limit:
            more = "" if compressed else "; --compress makes it smaller"
            yield f"{cloud} takes at most {limit} bytes of user-data, not {len(raw)}{more}"
