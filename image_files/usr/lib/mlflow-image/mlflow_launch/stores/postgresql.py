"""What is wrong with a PostgreSQL database, from the driver's own error.

libpq gives no SQLSTATE for a failed connection, only a text: that of libpq itself is in English
(LC_ALL=C), that of the server in the server's language. A text that is not known is repeated.
Source: the messages of libpq 17, PostgreSQL 15 and pgbouncer 1.18.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from mlflow_launch.stores import reach

SCHEME = "postgresql+psycopg2://"
_BLOCK = "backend_store.postgresql"
#: A pattern of the driver's text -> what it means, and what to do.
_OTHER_CA = "its certificate is not signed by the CA; correct ca_certificate"
_UNKNOWN_CA = "its certificate is not signed by a known CA; write its CA as ca_certificate"
#: mlflow_settings/blocks/postgresql.py has the same path.
_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
_CAUSES = (
    (r"does not match host name", "its certificate is for another name; write that name as host"),
    (r"certificate has expired|certificate expired", "its certificate has expired; renew it there"),
    (
        r"certificate verify failed|unable to get local issuer|self.signed certificate"
        r"|signature failure",  # another CA of the same name
        _OTHER_CA,
    ),
    (r"root certificate file .* does not exist", "the CA's file is missing; run mlflow-configure"),
    (
        r"server does not support SSL",
        "it speaks no TLS on this port; correct the port, or write sslmode: disable",
    ),
    (
        r"no pg_hba.conf entry .* no encryption|SSL required|encryption required",
        "it wants TLS; write sslmode: verify-full",
    ),
    (
        r"no pg_hba.conf entry",
        "it does not accept this user from this machine; add it to pg_hba.conf there",
    ),
    (
        r"password authentication failed|SASL authentication failed|no such user"
        r"|role .* does not exist|no password supplied",
        "it refused the user or the password; correct user and password",
    ),
    (
        r"no such database|database .* does not exist",
        "there is no such database; create it, or correct database",
    ),
    (
        r"too many clients|remaining connection slots|no more connections allowed"
        r"|too many connections",
        "it has too many connections; raise its limit, or lower pool.size and workers",
    ),
    (r"starting up|shutting down|in recovery|not yet accepting", "it is starting or stopping"),
    (
        r"server_login_retry|query_wait_timeout|pgbouncer cannot connect|server login failed",
        "pgbouncer does not reach its database",
    ),
    (r"timeout expired|timed out", "it does not answer; check its load and firewalls"),
    (r"received invalid response|expected authentication", "no PostgreSQL answers on this port"),
    (r"server closed the connection", "it closed the connection; is this a port of PostgreSQL?"),
)
_NO_RIGHT = (
    "the user may not create tables in it; make the user its owner, or run there: "
    "GRANT CREATE ON SCHEMA public TO the user"
)


def trouble(uri: str) -> str:
    """Why MLflow cannot use the database, in one line with a remedy; "" when it can."""
    arguments = _arguments(uri)
    host, port = arguments["host"], int(arguments.get("port", 5432))
    if reason := reach.trouble(host, port, f"{_BLOCK}.host"):
        return f"database: {reason}"
    place = f"database {arguments['dbname']} on {host} port {port}"
    driver: Any = importlib.import_module("psycopg2")
    try:
        with _cursor(arguments) as cursor:
            cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
            if cursor.fetchone()[0]:
                return ""
            cursor.execute("SELECT has_schema_privilege(current_schema(), 'CREATE')")
            return "" if cursor.fetchone()[0] else f"{place}: {_NO_RIGHT}"
    except driver.Error as error:
        found = cause(str(error))
        # Without a CA of the settings, there is nothing to correct.
        unknown = found == _OTHER_CA and arguments.get("sslrootcert") == _SYSTEM_CA
        return f"{place}: {_UNKNOWN_CA if unknown else found}"


def revision(uri: str) -> str:
    """The schema revision that MLflow has left in the database; "" when there is none."""
    driver: Any = importlib.import_module("psycopg2")
    try:
        with _cursor(_arguments(uri)) as cursor:
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
    except driver.Error:
        return ""
    return str(row[0]) if row else ""


def cause(text: str) -> str:
    """What an error of the driver means, and what to do."""
    for pattern, meaning in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return meaning
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"it refused the connection: {lines[-1] if lines else 'no reason was given'}"


@contextmanager
def _cursor(arguments: dict[str, Any]) -> Iterator[Any]:
    driver: Any = importlib.import_module("psycopg2")
    with closing(driver.connect(**arguments)) as connection:
        # Nothing is written; pgbouncer's transaction pooling gets its connection back at once.
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def _arguments(uri: str) -> dict[str, Any]:
    """What SQLAlchemy gives to the driver."""
    parsed: Any = importlib.import_module("sqlalchemy.engine").make_url(uri)
    named = {"username": "user", "database": "dbname"}
    arguments = {
        named.get(key, key): value for key, value in parsed.translate_connect_args().items()
    }
    return {**arguments, **parsed.query}
