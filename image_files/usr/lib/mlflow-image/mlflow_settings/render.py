"""Settings in, the files that the running server reads out; the same settings, the same bytes.

Secrets go into server.json only, which the service's group may read and nobody else.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_settings.blocks import hosts
from mlflow_settings.settings import Settings

FORMAT = 1
# What extra_environment may change. No calls home from a server in somebody's private network,
# unless they ask for it; the rest is what `mlflow server` sets itself, said beforehand: the
# launcher imports early, and the unit says the same to it (a test compares them).
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "SAMEORIGIN",
}


@dataclass(frozen=True)
class RenderedFile:
    """One file to write: its path, text, mode, and the group that may read it."""

    path: str
    content: str = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "mlflow"


def render(settings: Settings, addresses: Sequence[str] = ()) -> list[RenderedFile]:
    """The files of these settings.

    addresses: the machine's own IP addresses, most useful first; the web page is made to work
    under each of them, and the first is the one shown to people.
    """
    launch = {
        "format": FORMAT,
        "environment": dict(sorted(environment(settings, addresses).items())),
        "stock_command": settings.server.job_execution,
    }
    return [
        RenderedFile("/run/mlflow/server.json", json.dumps(launch, indent=2) + "\n", 0o640),
        RenderedFile("/run/mlflow/url", url(settings, addresses) + "\n", 0o644),
    ]


def environment(settings: Settings, addresses: Sequence[str] = ()) -> Mapping[str, str]:
    """The environment variables from which `mlflow server` takes its options."""
    server = settings.server
    own_names = [*server.allowed_hosts, *map(_in_url, addresses)]
    variables = {
        **DEFAULTS,
        **server.extra_environment,
        "MLFLOW_BACKEND_STORE_URI": "sqlite:///" + settings.backend_store.sqlite,
        "MLFLOW_SERVE_ARTIFACTS": "true",
        "MLFLOW_ARTIFACTS_DESTINATION": settings.artifact_store.local,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "MLFLOW_HOST": server.host,
        "MLFLOW_PORT": str(server.port),
        "MLFLOW_WORKERS": str(server.workers),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(hosts.host_entries(server.allowed_hosts)),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": str(server.job_execution).lower(),
    }
    origins = hosts.origin_entries(own_names, server.allowed_origins, server.port)
    if origins:
        variables["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    return variables


def url(settings: Settings, addresses: Sequence[str] = ()) -> str:
    """The address that people are told: what is listened on, or the machine's first address."""
    host = settings.server.host
    if ipaddress.ip_address(host).is_unspecified:
        host = addresses[0] if addresses else "127.0.0.1"
    return f"http://{_in_url(host)}:{settings.server.port}"


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
