"""A Kerberos realm of its own: MIT's KDC on loopback, with short tickets.

In Debian: krb5-kdc. Sources: kdc.conf(5), krb5.conf(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import process

REALM = "PEERS.TEST"
TICKET = "2m"
_PATH = f"{os.defpath}:/usr/sbin"


@dataclass(frozen=True)
class Kdc:
    """A running KDC. folder: its files; host: how clients reach it."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    process: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Run the KDC, also again: the realm stays."""
        words = [str(shutil.which("krb5kdc", path=_PATH)), "-n", "-r", REALM]
        log = self.folder / "krb5kdc.log"
        self.process.enter_context(process.running(words, self.port, log, self.variables))

    def stop(self) -> None:
        self.process.close()

    @property
    def configuration(self) -> Path:
        """krb5.conf for clients on this host."""
        return self.folder / "krb5.conf"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "KRB5_CONFIG": str(self.configuration),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
        }

    def admin(self, query: str) -> None:
        """Run a command of kadmin.local."""
        words = [str(shutil.which("kadmin.local", path=_PATH)), "-r", REALM, "-q", query]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "while" not in done.stderr, done.stderr  # kadmin.local ends with 0 in any case

    def keytab(self, principal: str, file: Path | None = None) -> Path:
        """Make the principal if need be, give it new keys, and write them to a file."""
        file = file or self.folder / f"{principal.replace('/', '-')}.keytab"
        file.unlink(missing_ok=True)
        if principal not in self.principals():
            self.admin(f"addprinc -randkey {principal}")
        self.admin(f"ktadd -k {file} {principal}")
        return file

    def kinit(self, keytab: Path, principal: str, cache: str, life: str = TICKET) -> None:
        """Ask for a ticket. cache: as KRB5CCNAME."""
        words = ["kinit", "-l", life, "-c", cache, "-k", "-t", str(keytab), principal]
        subprocess.run(words, env={**os.environ, **self.variables}, check=True)

    def principals(self) -> set[str]:
        words = [str(shutil.which("kadmin.local", path=_PATH)), "-r", REALM, "-q", "listprincs"]
        environment = {**os.environ, **self.variables}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return {line.partition("@")[0] for line in done.stdout.splitlines() if "@" in line}


def missing() -> str:
    """What this host lacks for it; "" when all is there."""
    programs = ("krb5kdc", "kadmin.local", "kdb5_util")
    return ", ".join(name for name in programs if not shutil.which(name, path=_PATH))


def krb5_conf(host: str, port: int) -> str:
    """A client's krb5.conf."""
    return f"""\
[libdefaults]
  default_realm = {REALM}
  dns_lookup_realm = false
  dns_lookup_kdc = false
  rdns = false
  dns_canonicalize_hostname = false
  udp_preference_limit = 1
  ticket_lifetime = {TICKET}
[realms]
  {REALM} = {{
    kdc = {host}:{port}
  }}
[domain_realm]
  .peers.test = {REALM}
  localhost = {REALM}
"""


@contextmanager
def running(folder: Path) -> Iterator[Kdc]:
    """Run a KDC with an empty realm; its files stay in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Kdc(folder, free_port())
    made.configuration.write_text(krb5_conf(made.host, made.port))
    (folder / "kdc.conf").write_text(
        f"""\
[kdcdefaults]
  kdc_listen = 127.0.0.1:{made.port}
  kdc_tcp_listen = 127.0.0.1:{made.port}
[realms]
  {REALM} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/kadm5.acl
    max_life = {TICKET}
    max_renewable_life = 0
    supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
  }}
[logging]
  kdc = FILE:{folder}/kdc.log
"""
    )
    environment = {**os.environ, **made.variables}
    create = [str(shutil.which("kdb5_util", path=_PATH)), "-r", REALM, "create", "-s", "-P", "x"]
    subprocess.run(create, env=environment, capture_output=True, check=True)
    made.start()
    try:
        yield made
    finally:
        made.stop()
