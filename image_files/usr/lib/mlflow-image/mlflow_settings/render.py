"""Renders settings as the files that the server reads; equal settings give equal bytes.

Secrets go only into files that root and the service can read: those of a store into its own, and
extra_environment into server.json.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mlflow_settings import proxy
from mlflow_settings.blocks import auth, hdfs, postgresql, s3
from mlflow_settings.blocks.block import RUN, Machine, RenderedFile
from mlflow_settings.blocks.hosts import in_url
from mlflow_settings.proxy import Identity
from mlflow_settings.settings import Settings

FORMAT = 1
#: Files that only some settings have.
OPTIONAL_FILES = (
    *(postgresql.PASSWORD_FILE, postgresql.CA_FILE, s3.KEY_FILE, s3.CA_FILE, *hdfs.FILES),
    *(auth.CONFIG_FILE, auth.USERS_FILE),
    *(proxy.CONFIGURATION, proxy.CERTIFICATE, proxy.KEY, proxy.CA),
)
# Variables that extra_environment may change. Telemetry is off unless somebody asks for it: the
# server may run in a private network. `mlflow server` sets the others itself, but the launcher
# imports MLflow before that. mlflow-tracking.service sets the same values; a test compares them.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_WORKSPACES": "false",
    "MLFLOW_SERVER_X_FRAME_OPTIONS": "SAMEORIGIN",
}


def render(
    settings: Settings,
    machine: Machine | None = None,
    state_device: int | None = None,
    identity: Identity | None = None,
) -> list[RenderedFile]:
    """The files for these settings, server.json first.

    The web page works under each of the machine's addresses, and the first one that the server
    listens on is in the URL that people see. state_device: the device number of the file system at
    /var/lib/mlflow; the launcher compares it. identity: the certificate that nginx shows.
    """
    machine, basic = machine or Machine(), settings.auth.basic
    launch = {
        "format": FORMAT,
        "environment": dict(sorted(environment(settings, machine).items())),
        "stock_command": settings.server.job_execution,
        "state_device": state_device,
    }
    return [
        RenderedFile(f"{RUN}/server.json", json.dumps(launch, indent=2) + "\n", 0o640),
        RenderedFile(f"{RUN}/url", url(settings, machine.addresses) + "\n", 0o644),
        *(file for block in settings.blocks for file in block.run_files()),
        *(basic.run_files(settings.backend_store.accounts_uri) if basic else ()),
        *proxy.files(settings, identity),
    ]


def environment(settings: Settings, machine: Machine | None = None) -> Mapping[str, str]:
    """The environment variables that configure `mlflow server`; those of the blocks win.

    Only extra_environment may hold secrets.
    """
    variables = {**DEFAULTS, **settings.server.extra_environment}
    # Clients may use each name of the certificate.
    names = (*settings.server.allowed_hosts, *map(in_url, settings.tls.names))
    server = replace(settings.server, allowed_hosts=tuple(dict.fromkeys(names)))
    for block in replace(settings, server=server).blocks:
        variables.update(block.environment(machine or Machine()))
    return {**variables, **proxy.environment(settings)}


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
    return f"{settings.scheme}://{in_url(host)}{settings.port_in_url}"
