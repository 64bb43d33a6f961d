"""Renders settings as the files that the server reads; equal settings give equal bytes.

Secrets go only into server.json, which root and the service's group can read.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_settings.blocks.hosts import in_url
from mlflow_settings.settings import Settings

FORMAT = 1
# Variables that extra_environment may change. Telemetry is off unless somebody asks for it: the
# server may run in a private network. `mlflow server` sets the others itself, but the launcher
# imports MLflow before that. mlflow-tracking.service sets the same values; a test compares them.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "SAMEORIGIN",
}


@dataclass(frozen=True)
class RenderedFile:
    """One file to write: its path, content, mode and owners."""

    path: str
    content: str = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "mlflow"


def render(
    settings: Settings, addresses: Sequence[str] = (), state_device: int | None = None
) -> list[RenderedFile]:
    """The files for these settings.

    addresses: the machine's own IP addresses, most useful first. The web page works under each
    of them, and the first one that the server listens on is in the URL that people see.
    state_device: the device number of the file system at /var/lib/mlflow; the launcher compares it.
    """
    launch = {
        "format": FORMAT,
        "environment": dict(sorted(environment(settings, addresses).items())),
        "stock_command": settings.server.job_execution,
        "state_device": state_device,
    }
    return [
        RenderedFile("/run/mlflow/server.json", json.dumps(launch, indent=2) + "\n", 0o640),
        RenderedFile("/run/mlflow/url", url(settings, addresses) + "\n", 0o644),
    ]


def environment(settings: Settings, addresses: Sequence[str] = ()) -> Mapping[str, str]:
    """The environment variables that configure `mlflow server`; those of the blocks win."""
    variables = {**DEFAULTS, **settings.server.extra_environment}
    for block in settings.blocks:
        variables.update(block.environment(addresses))
    return variables


def url(settings: Settings, addresses: Sequence[str] = ()) -> str:
    """The URL for people: the listening address, or the machine's first one of that kind.

    0.0.0.0 means every IPv4 address, :: every address (ipv6(7), IPV6_V6ONLY).
    """
    host = settings.server.host
    listening = ipaddress.ip_address(host)
    if listening.is_unspecified:
        reached = [one for one in addresses if listening.version == 6 or ":" not in one]
        reached.sort(key=lambda one: (":" in one) != (listening.version == 6))
        host = reached[0] if reached else "127.0.0.1"
    return f"http://{in_url(host)}:{settings.server.port}"
