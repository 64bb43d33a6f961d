"""mlflow-admin: MLflow's own command line, with the stores and the rights of this server.

Nobody needs to know a URI or a key: the variables are those that the server was started with, and
the command runs as the service's user. Commands reach runs and artifacts through the server itself;
those that need the database (`gc`, `db`) get its URI.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow_settings import files
from mlflow_settings.blocks.auth import OWN_ACCESS, OWN_NAME
from mlflow_settings.blocks.block import RUN
from mlflow_settings.blocks.hosts import in_url

MLFLOW = Path("/opt/mlflow/bin/mlflow")
FAILED = 1
USAGE = """\
usage: mlflow-admin ARGS...

Runs `mlflow ARGS...` with this server's stores and rights. As root (sudo). Examples:

  mlflow-admin experiments search
  mlflow-admin gc --older-than 30d    delete for good what was deleted 30 days ago
  mlflow-admin db upgrade             after a backup: bring the database to this MLflow's schema
  mlflow-admin users --help           accounts, passwords and rights of a server with users
  mlflow-admin --help                 all commands of MLflow
"""
# From the server's own settings these would make a client of this command line misbehave.
_SERVER_ONLY = ("MLFLOW_HOST", "MLFLOW_PORT", "MLFLOW_WORKERS", "MLFLOW_EXPOSE_PROMETHEUS")


def main(argv: Sequence[str]) -> int:
    """Run the program; returns its exit code, or becomes MLflow's command."""
    if not argv:
        print(USAGE, end="")
        return 0
    if os.geteuid() != 0:
        print("mlflow-admin: only root can use the server's stores: use sudo", file=sys.stderr)
        return FAILED
    try:
        server = json.loads((Path(RUN) / "server.json").read_text(encoding="utf-8"))
        given: Mapping[str, str] = server["environment"]
    except (OSError, ValueError, KeyError, TypeError):
        print(
            "mlflow-admin: no settings are in force; `mlflow-configure --apply` says why",
            file=sys.stderr,
        )
        return FAILED
    files.become_service_user()
    # A relative path of the caller's folder may be unreachable for the service.
    os.chdir("/")
    if argv[0] == "users":
        from mlflow_settings import users  # its modules are not needed by other commands

        return users.main(argv[1:], url(given))
    # Importing MLflow takes seconds, and a minute in an emulated machine.
    print(f"mlflow-admin: starting `mlflow {argv[0]}`", file=sys.stderr, flush=True)
    words = [str(MLFLOW), *with_database(argv, given)]
    os.execve(MLFLOW, words, variables(given))  # noqa: S606 - no shell is involved


def variables(given: Mapping[str, str]) -> Mapping[str, str]:
    """The environment of the command: the server's, and where the server itself listens."""
    kept = {name: value for name, value in given.items() if name not in _SERVER_ONLY}
    plain = {name: os.environ[name] for name in ("TERM", "LANG", "COLUMNS") if name in os.environ}
    return {
        **plain,
        **kept,
        "PATH": "/opt/mlflow/bin:/usr/bin:/bin",
        "HOME": "/var/lib/mlflow",
        "MLFLOW_TRACKING_URI": url(given),
        **_own_account(),
    }


def url(given: Mapping[str, str]) -> str:
    """Where the server answers on this machine."""
    return f"http://{in_url(_reachable(given['MLFLOW_HOST']))}:{given['MLFLOW_PORT']}"


def _own_account() -> Mapping[str, str]:
    """How a client signs in as this machine; nothing when the server has no users."""
    try:
        secret = OWN_ACCESS.read_text(encoding="ascii")
    except OSError:
        return {}
    return {"MLFLOW_TRACKING_USERNAME": OWN_NAME, "MLFLOW_TRACKING_PASSWORD": secret}


def with_database(argv: Sequence[str], given: Mapping[str, str]) -> Sequence[str]:
    """The arguments, with the database's URI where `db` and `gc` want it as an argument.

    The URI holds no secret: the password is in a file.
    """
    uri = given["MLFLOW_BACKEND_STORE_URI"]
    if "--help" in argv or any("://" in word for word in argv):
        return argv
    if argv[0] == "db":
        return [*argv, uri]
    return [argv[0], "--backend-store-uri", uri, *argv[1:]] if argv[0] == "gc" else argv


def _reachable(host: str) -> str:
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host
