"""Writes a commented settings file from a few decisions, such as those of a tutorial's command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_image.errors import Refusal, Refusals
from mlflow_image.server import new_hdfs
from mlflow_image.server.new_hdfs import Cluster
from mlflow_settings import placeholders, settings
from mlflow_settings.blocks import postgresql, s3
from mlflow_settings.document import Fault, Faults
from mlflow_settings.wording import Reason, dotted

SQLITE, LOCAL = "sqlite", "local"
#: In place of what is not known yet.
PASSWORD = "DATABASE_PASSWORD"  # noqa: S105


@dataclass(frozen=True)
class Choices:
    """What a user decides. Values that are not known yet stay in capitals, for the user to replace.

    database: `sqlite`, or the parts of a PostgreSQL URI. place: `local` or s3://BUCKET/FOLDER;
    cluster: instead of a place. database_ca, store_ca: PEM text. https: the DNS names of its
    certificate, None for HTTP.
    """

    port: int = 8000
    database: str | Mapping[str, Any] = field(default=SQLITE, repr=False)
    database_ca: str = ""
    place: str = LOCAL
    cluster: Cluster | None = None
    endpoint: str = ""
    region: str = ""
    key_id: str = field(default="ACCESS_KEY_ID", repr=False)
    secret: str = field(default="SECRET_ACCESS_KEY", repr=False)
    session_token: str = field(default="", repr=False)
    store_ca: str = ""
    access: str = "proxied"
    passwords: bool = False
    https: tuple[str, ...] | None = None


_UNKNOWN: Mapping[str, Any] = {
    "host": "DATABASE_HOST",
    "port": 6432,
    "database": "db1",
    "user": "DATABASE_USER",
    "password": PASSWORD,
}
#: What the documents are that mlflow-image comes from.
TITLES = {
    "000": "Yandex Cloud's tutorial: a VM, Managed PostgreSQL, Object Storage",
    "001": "the same with Airflow and Data Proc",
    "002": "PostgreSQL, HDFS with Kerberos",
    "003": "projects on Kubernetes: PostgreSQL and AWS",
    "004": "SQLite and MinIO",
}
#: Their servers.
SEEDS: Mapping[str, Choices] = {
    "000": Choices(
        database=_UNKNOWN,
        place="s3://mlflow-bucket/artifacts",
        endpoint="STORE_ENDPOINT",
        access="direct",
    ),
    "001": Choices(
        database=_UNKNOWN,
        place="s3://mlflowbucket/artifacts",
        endpoint="STORE_ENDPOINT",
        access="direct",
    ),
    "002": Choices(
        port=5000,
        database={**_UNKNOWN, "port": 5432, "database": "mlflow"},
        cluster=Cluster(),
    ),
    "003": Choices(
        port=5000,
        database={**_UNKNOWN, "port": 5432, "database": "mlflow"},
        place="s3://BUCKET_NAME",
        region="STORE_REGION",
        access="direct",
    ),
    "004": Choices(
        port=5000, place="s3://mlflows3/artifacts", endpoint="STORE_ENDPOINT", region="us-east-1"
    ),
}


def with_database(choices: Choices, text: str) -> Choices:
    """The choices with `sqlite` or a PostgreSQL URI; raises Refusal without repeating the URI.

    A URI without a password gets one in capitals.
    """
    if text == SQLITE:
        return replace(choices, database=SQLITE)
    if text.startswith("sqlite:"):
        remedy = "SQLite is the default: give no URI"
        raise Refusal("the database's URI is not one of PostgreSQL", remedy=remedy)
    scheme, separator, rest = text.partition("://")
    credentials, at, place = rest.rpartition("@")
    if separator and at and ":" not in credentials:
        text = f"{scheme}://{credentials}:{PASSWORD}@{place}"
    parts = postgresql.parts_of_uri(text)
    if isinstance(parts, Reason):
        raise Refusal(f"the database's URI {parts.message}", remedy=parts.remedy)
    return replace(choices, database=parts)


def with_place(choices: Choices, text: str) -> Choices:
    """The choices with `local` or s3://BUCKET/FOLDER; raises Refusal."""
    if text != LOCAL and (reason := s3.uri_fault(text)):
        raise Refusal(f"the artifacts' place {reason.message}", remedy=reason.remedy)
    return replace(choices, place=text)


def checked(choices: Choices) -> Choices:
    """The same choices; raises Refusals with what the server would refuse in them.

    Values in capitals, for the user to replace, are accepted.
    """
    try:
        settings.check(text_of(choices), "settings")
    except Faults as refused:
        found = [_told(one) for one in refused.faults if placeholders.MESSAGE not in one.message]
        if found:
            what = "the server would refuse these settings; nothing was written"
            raise Refusals(what, found) from refused
    return choices


def _told(fault: Fault) -> str:
    """A fault without a line: the file does not exist yet."""
    return f"{dotted(fault.path)}: {fault.message}" + (f"; {fault.remedy}" if fault.remedy else "")


def summary(choices: Choices) -> str:
    """The stores and who gets in, in words, without secrets."""
    database, artifacts = choices.database, choices.place
    if choices.cluster:
        artifacts = choices.cluster.place
    where = "SQLite" if isinstance(database, str) else f"PostgreSQL on {database['host']}"
    places = f"database: {where}; artifacts: {'files' if artifacts == LOCAL else artifacts}"
    users = "users with passwords" if choices.passwords else "no passwords"
    return f"{places}; {users}; {'HTTP' if choices.https is None else 'HTTPS'}"


def checks_certificate(choices: Choices) -> bool:
    """Whether the server checks the certificate of a PostgreSQL."""
    database = choices.database
    return not isinstance(database, str) and str(database.get("sslmode", "verify-full")).startswith(
        "verify"
    )


def without_ca(choices: Choices) -> list[str]:
    """The flags that are missing if a store's certificate is signed by a company's own CA."""
    missing = {
        "--database-ca": checks_certificate(choices) and not choices.database_ca,
        "--store-ca": choices.endpoint.startswith("https://") and not choices.store_ca,
    }
    return [flag for flag, is_missing in missing.items() if is_missing]


def text_of(choices: Choices) -> str:
    """The settings file."""
    return f"""\
# Settings of an MLflow server; docs/settings.md explains every key.
schema_version: 1

server:
  # Listen on every address of the machine; limit access with the cloud's firewall.
  host: "0.0.0.0"
  port: {choices.port}{_who_uses_the_port(choices)}
  # localhost and private IP addresses always work. List every DNS name and public address that
  # clients use; a request to any other name gets status 403:
  # allowed_hosts: [mlflow.example.com]

backend_store:
{_database(choices)}
artifact_store:
{_artifacts(choices)}
{_users(choices)}
{_https(choices)}"""


def _database(choices: Choices) -> str:
    if isinstance(choices.database, str):
        return """\
  # A file on the machine: back up /var/lib/mlflow.
  sqlite: /var/lib/mlflow/mlflow.db
"""
    lines = ["  postgresql:"]
    for key, value in choices.database.items():
        lines.append(f"    {key}: {value if isinstance(value, int) else _quoted(value)}")
        if key == "port" and value == 6432:
            lines[-1] += "  # pgbouncer's, as managed services have it; PostgreSQL's own is 5432"
    if "sslmode" not in choices.database:
        lines.append("    sslmode: verify-full  # the certificate and its name are checked")
    if choices.database_ca:
        lines += _pem(choices.database_ca)
    else:
        lines.append("    # ca_certificate: the CA as PEM text; by default the system's CAs")
    return "\n".join(lines) + "\n"


def _artifacts(choices: Choices) -> str:
    if choices.cluster:
        return "\n".join(new_hdfs.lines(choices.cluster, choices.access)) + "\n"
    if choices.place == LOCAL:
        return """\
  # A directory on the machine. Clients upload and download through the server.
  local: /var/lib/mlflow/artifacts
"""
    parts = s3.parts_of_uri(choices.place)
    lines = ["  s3:", f"    bucket: {_quoted(parts['bucket'])}"]
    if prefix := parts["prefix"].rstrip("/"):
        lines.append(f"    prefix: {_quoted(prefix)}")
    if choices.endpoint:
        lines.append(f"    endpoint_url: {_quoted(choices.endpoint)}")
    if choices.region:
        lines.append(f"    region: {_quoted(choices.region)}")
    lines += [
        "    # Both or neither: without a key, the machine's role is used (AWS).",
        f"    access_key_id: {_quoted(choices.key_id)}",
        f"    secret_access_key: {_quoted(choices.secret)}",
        *(
            [f"    session_token: {_quoted(choices.session_token)}"]
            if choices.session_token
            else []
        ),
        "    # proxied: clients need only this server. direct: they use keys of their own.",
        f"    access: {choices.access}",
    ]
    if choices.store_ca:
        lines += _pem(choices.store_ca)
    return "\n".join(lines) + "\n"


def _users(choices: Choices) -> str:
    if not choices.passwords:
        return """\
# Without this block, everybody who reaches the server may read and delete everything:
# auth:
#   basic: {}
"""
    return """\
auth:
  # MLflow's own users. The machine makes the first password of admin; `invoke up` says where it is.
  basic: {}
"""


def _https(choices: Choices) -> str:
    if choices.https is None:
        return """\
# HTTPS on port 443, with a certificate that the machine makes; docs/settings.md has other kinds:
# tls:
#   self_signed: {names: [mlflow.example.com]}
"""
    return f"""\
tls:
  # The machine makes its certificate; clients need its authority's, which client-env --ca writes.
  self_signed:
    names: [{", ".join(map(_quoted, choices.https))}]
"""


def _who_uses_the_port(choices: Choices) -> str:
    return "" if choices.https is None else "  # on the machine itself; clients use 443"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _pem(text: str) -> list[str]:
    return ["    ca_certificate: |", *(f"      {line}" for line in text.strip().splitlines())]
