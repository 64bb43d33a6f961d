"""PostgreSQL behind pgbouncer, as a managed service shows it: TLS, SCRAM, transaction pooling.

In Debian: postgresql and pgbouncer.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import process
from tests.peers.authority import Authority, Issued

#: The name in the certificate, besides localhost; a VM finds it in its /etc/hosts.
HOST = "db.peers.test"
DATABASE, USER = "db1", "mlflow-user"


@dataclass(frozen=True)
class Postgresql:
    """port: PostgreSQL's own; pooled_port: pgbouncer's. ca: the CA's certificate, PEM."""

    folder: Path
    port: int
    pooled_port: int
    ca: str
    password: str = field(repr=False)
    database: str = DATABASE

    def sql(self, text: str, database: str = "") -> str:
        """Run SQL as the superuser, over the Unix socket; returns the rows."""
        words = [_program("psql"), "-h", self.folder, "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(
            process.as_user([*words, "-d", database or self.database, "-Atc", text]),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Collect the messages with SQL that the database gets while the body runs."""
        received: list[str] = []
        log = self.folder / "postgres.log"
        self.sql("ALTER SYSTEM SET log_statement = 'all'")
        self.sql("SELECT pg_reload_conf()")
        start = log.stat().st_size
        try:
            yield received
        finally:
            # One message may hold several statements, which are logged together.
            received += log.read_text()[start:].split("LOG:  statement: ")[1:]
            self.sql("ALTER SYSTEM RESET log_statement")
            self.sql("SELECT pg_reload_conf()")


def missing() -> str:
    """The programs that are not installed, for a skip's reason."""
    programs = (*map(str, map(_program, ("initdb", "postgres", "psql"))), "pgbouncer")
    return ", ".join(name for name in programs if not shutil.which(name, path=_PATH))


@contextmanager
def running(
    authority: Authority, issued: Issued | None = None, database: str = DATABASE
) -> Iterator[Postgresql]:
    """Run both servers with an empty database that belongs to USER.

    Their folder is not one of pytest: each of its runs closes all of them to other users.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mlflow-image-peer-") as scratch,
        _in_folder(Path(scratch), authority, issued, database) as peer,
    ):
        yield peer


@contextmanager
def _in_folder(
    folder: Path, authority: Authority, issued: Issued | None, database: str
) -> Iterator[Postgresql]:
    issued = issued or authority.issue(HOST, "localhost")
    certificate, key = folder / "server.pem", folder / "server.key"
    shutil.copy(issued.certificate, certificate)
    shutil.copy(issued.key, key)
    process.give(folder, certificate, key)
    peer = Postgresql(
        folder,
        free_port(),
        free_port(),
        authority.certificate.read_text(),
        secrets.token_hex(12),
        database,
    )
    with _postgres(peer), pgbouncer(peer):
        yield peer


@contextmanager
def _postgres(peer: Postgresql) -> Iterator[None]:
    data = peer.folder / "data"
    initdb = [_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
    done = subprocess.run(process.as_user(initdb), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The superuser over the socket; everybody else with TLS and SCRAM.
    (data / "pg_hba.conf").write_text(
        "local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"
        "hostssl all all ::1/128 scram-sha-256\n"
    )
    (data / "postgresql.auto.conf").write_text(
        f"listen_addresses = '127.0.0.1'\nport = {peer.port}\n"
        f"unix_socket_directories = '{peer.folder}'\nssl = on\n"
        f"ssl_cert_file = '{peer.folder}/server.pem'\nssl_key_file = '{peer.folder}/server.key'\n"
        "password_encryption = 'scram-sha-256'\nmax_connections = 60\nfsync = on\n"
    )
    log = peer.folder / "postgres.log"
    words = process.as_user([_program("postgres"), "-D", data])
    with process.running(words, peer.port, log) as server:
        process.until(lambda: _takes_connections(peer), server, log)
        peer.sql(f"CREATE ROLE \"{USER}\" LOGIN PASSWORD '{peer.password}'", "postgres")
        peer.sql(f'CREATE DATABASE {peer.database} OWNER "{USER}"', "postgres")
        yield


def _takes_connections(peer: Postgresql) -> bool:
    """It listens before that, and refuses them."""
    words = [_program("pg_isready"), "-q", "-h", peer.folder, "-p", str(peer.port)]
    return subprocess.run(process.as_user(words), check=False).returncode == 0


@contextmanager
def pgbouncer(peer: Postgresql) -> Iterator[subprocess.Popen[bytes]]:
    """Run pgbouncer alone; PostgreSQL runs already."""
    users, ini = peer.folder / "users.txt", peer.folder / "pgbouncer.ini"
    users.write_text(f'"{USER}" "{peer.password}"\n')
    users.chmod(0o600)
    ini.write_text(
        f"[databases]\n{peer.database} = host=127.0.0.1 port={peer.port} "
        f"dbname={peer.database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {peer.pooled_port}\n"
        "unix_socket_dir =\npool_mode = transaction\nauth_type = scram-sha-256\n"
        f"auth_file = {users}\nclient_tls_sslmode = require\nserver_tls_sslmode = require\n"
        f"client_tls_cert_file = {peer.folder}/server.pem\n"
        f"client_tls_key_file = {peer.folder}/server.key\n"
        "default_pool_size = 20\nmax_client_conn = 200\nserver_login_retry = 1\n"
    )
    process.give(users, ini)
    words = process.as_user(["pgbouncer", "-q", ini])
    with process.running(words, peer.pooled_port, peer.folder / "pgbouncer.log") as started:
        yield started


_PATH = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin"


def _program(name: str) -> Path:
    """A program of the newest PostgreSQL in Debian's places."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return found[-1] if found else Path(name)
