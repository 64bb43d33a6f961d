"""backend_store.postgresql and its URI: the rules, the driver's URI and the password's file.

Sources: libpq's documentation, "Connection Strings", "The Password File" and "SSL Support".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from mlflow_settings.blocks import sources
from mlflow_settings.blocks.block import RUN, Given, RenderedFile, known_keys, text_faults
from mlflow_settings.blocks.sources import FromFile
from mlflow_settings.wording import Reason, Worded, shown

# libpq of psycopg2-binary brings its own OpenSSL, which knows no certificates.
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
PASSWORD_FILE = f"{RUN}/pgpass"
CA_FILE = f"{RUN}/postgresql-ca.pem"
#: SQLAlchemy 2.1 takes plain postgresql:// for psycopg 3, which fails behind pgbouncer.
SCHEME = "postgresql+psycopg2"
SSLMODES = ("verify-full", "verify-ca", "require", "disable")

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:]+")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_ENCODE = (
    "write special characters of the password percent-encoded: @ as %40, : as %3A, / as %2F, "
    "# as %23, ? as %3F, % as %25; or use backend_store.postgresql, where nothing is encoded"
)


@dataclass(frozen=True)
class Pool:
    """The connections of each server process."""

    size: int = 5
    max_overflow: int = 10
    recycle_s: int = 1800


@dataclass(frozen=True)
class Postgresql:
    """A PostgreSQL database. password, ca_certificate: the text, or the file to read it from."""

    host: str
    database: str
    user: str
    password: str | FromFile = field(repr=False)
    port: int = 5432
    sslmode: str = "verify-full"
    ca_certificate: str | FromFile = ""
    connect_timeout: int = 10
    pool: Pool = field(default_factory=Pool)

    @classmethod
    def from_given(cls, given: Mapping[str, Any]) -> Postgresql:
        """Of checked values."""
        values = {**sources.values(given), "pool": Pool(**given.get("pool", {}))}
        return cls(**known_keys(cls, values))

    @property
    def uri(self) -> str:
        """For SQLAlchemy; without the password, which libpq finds in PASSWORD_FILE."""
        options = {"sslmode": self.sslmode, "connect_timeout": str(self.connect_timeout)}
        if self.ca_certificate:
            options["sslrootcert"] = CA_FILE
        elif self.sslmode.startswith("verify"):
            options["sslrootcert"] = SYSTEM_CA
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.database, safe='')}"
        return f"{SCHEME}://{place}?{urlencode(options, safe='/')}"

    def environment(self) -> Mapping[str, str]:
        """MLflow's variables for the store and its pool, and libpq's for the password."""
        return {
            "MLFLOW_BACKEND_STORE_URI": self.uri,
            "PGPASSFILE": PASSWORD_FILE,
            "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(self.pool.size),
            "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(self.pool.max_overflow),
            "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": str(self.pool.recycle_s),
        }

    def run_files(self) -> Iterator[RenderedFile]:
        """The password's file, which libpq refuses if others than its owner can read it."""
        if isinstance(self.password, str):
            fields = (self.host, str(self.port), self.database, self.user, self.password)
            line = ":".join(re.sub(r"([\\:])", r"\\\1", one) for one in fields)
            yield RenderedFile(PASSWORD_FILE, f"{line}\n", 0o600, owner="mlflow")
        if isinstance(self.ca_certificate, str) and self.ca_certificate:
            yield RenderedFile(CA_FILE, self.ca_certificate.strip() + "\n", 0o640)


def faults(given: Given) -> Iterator[Worded]:
    """The rules for the parts; paths start inside postgresql."""
    yield from text_faults(given, "host", _host_fault)
    for key in ("database", "user"):
        yield from text_faults(given, key, sources.one_line_fault)
    yield from sources.faults(given, {"password": sources.one_line_fault})
    yield from sources.ca_faults(given)
    unused = given.get("ca_certificate") or given.get("ca_file")
    if unused and given.get("sslmode") in ("disable", "require"):
        # libpq verifies with `require`, too, as soon as there is a CA file.
        mode = str(given["sslmode"])
        message = f"is {mode}, which does not use the CA certificate"
        yield Worded(("sslmode",), message, mode, "write verify-full, or leave the CA out")


def parts_of_uri(uri: str) -> Mapping[str, Any] | Reason:
    """The parts of a PostgreSQL URI as the keys of backend_store.postgresql; or why it has none.

    No message repeats the URI: it holds the password.
    """
    scheme, separator, rest = uri.partition("://")
    if reason := _scheme_fault(scheme.lower(), separator):
        return reason
    credentials, at, place = rest.rpartition("@")
    if not at and re.fullmatch(r"[A-Za-z0-9.,:_-]+(/[^?#]*)?(\?.*)?", rest):
        return Reason("has no user", f"write {_EXAMPLE}")
    if not at or "@" in credentials or re.search(r"[/?#]", credentials):
        return Reason("cannot be taken apart into user, password and host", _ENCODE)
    if _PERCENT.search(rest):
        return Reason("has a % that begins no escape", _ENCODE)
    user, colon, password = credentials.partition(":")
    if not user or not colon or not password:
        return Reason("has no user or no password", f"write {_EXAMPLE}")
    if ":" in password:
        return Reason("has a : in its password", _ENCODE)
    if "," in place.partition("/")[0]:
        remedy = "write one: managed services have a name that leads to the primary"
        return Reason("has several hosts", remedy)
    try:
        split = urlsplit(f"//{place}")
        host, port = split.hostname or "", split.port or 5432
    except ValueError:
        return Reason("has a port that is not a number from 1 to 65535", f"write {_EXAMPLE}")
    database = unquote(split.path.removeprefix("/"))
    if not host or not database or "/" in database or split.fragment:
        return Reason("has no host or no database name", f"write {_EXAMPLE}")
    parts = {"host": host, "port": port, "database": database}
    parts |= {"user": unquote(user), "password": unquote(password)}
    return _with_options(parts, split.query)


def _with_options(parts: dict[str, Any], query: str) -> Mapping[str, Any] | Reason:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "sslmode" and value in SSLMODES:
            parts["sslmode"] = value
        elif name == "sslrootcert" and value.startswith("/"):
            parts["ca_file"] = value
        elif name == "connect_timeout" and re.fullmatch("[1-9][0-9]{0,2}", value):
            parts["connect_timeout"] = int(value)
        elif name in ("sslmode", "sslrootcert", "connect_timeout"):
            choice = f": choose {', '.join(SSLMODES)}" if name == "sslmode" else ""
            return Reason(f"has a bad value of {name}", f"correct it{choice}")
        else:
            known = "sslmode, sslrootcert, connect_timeout"
            return Reason(f"has the parameter {shown(name)}, which is not known", f"known: {known}")
    return parts


def _scheme_fault(scheme: str, separator: str) -> Reason | None:
    if scheme in ("postgresql", SCHEME) and separator:
        return None
    if scheme == "postgres" and separator:
        return Reason("begins with postgres://", "write postgresql://")
    if scheme.startswith("postgresql+"):
        return Reason("names another driver", "write postgresql://: the driver is always psycopg2")
    if scheme == "sqlite":
        return Reason("is not the URI of a file", "write sqlite:////var/lib/mlflow/mlflow.db")
    drivers = "the image has the drivers of PostgreSQL (postgresql://) and SQLite (sqlite:///)"
    if separator and re.fullmatch(r"[a-z0-9+]{1,20}", scheme):
        return Reason(f"begins with {scheme}://, for which there is no driver", drivers)
    return Reason("is not the URI of a database", f"write {_EXAMPLE}")


def _host_fault(host: str) -> Reason | None:
    if _HOST.fullmatch(host):
        return None
    if not host.isascii():
        message = f"is {shown(host)}, with a character that is not ASCII"
        return Reason(message, "type the name again; write an international name as xn--...")
    if "," in host:
        remedy = "write one: managed services have a name that leads to the primary"
        return Reason(f"is {shown(host)}, several hosts", remedy)
    message = f"is {shown(host)}, not a host name or an IP address"
    return Reason(message, "write only the name, without a scheme, port or path")
