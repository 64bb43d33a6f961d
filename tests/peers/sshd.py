"""A real sshd on the loopback: its own configuration, host key and authorized keys."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import process

PROGRAM = "/usr/sbin/sshd"


@dataclass(frozen=True)
class Sshd:
    """A running server. key: of the one user that it lets in. known_hosts: the line of its key."""

    port: int
    user: str
    key: Path
    known_hosts: str
    log: Path


def missing() -> str:
    """What this host lacks for it; "" when all is there."""
    return ", ".join(name for name in (PROGRAM, "ssh-keygen") if not shutil.which(name))


@contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """Run it for the user of this process."""
    folder.mkdir()
    host, user = new_key(folder / "host"), new_key(folder / "user")
    port, name = free_port(), getpass.getuser()
    (folder / "authorized_keys").write_text(user.with_suffix(".pub").read_text())
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists, and makes none
    lines = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": host,
        "PidFile": folder / "pid",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "UsePAM": "no",
        "StrictModes": "no",  # the folder of the tests is below /tmp
        "AllowUsers": name,
        "Subsystem": "sftp internal-sftp",  # scp uses it
        "LogLevel": "VERBOSE",
    }
    configuration = folder / "sshd_config"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    log = folder / "sshd.log"
    with process.running([PROGRAM, "-D", "-e", "-f", configuration], port, log):
        kind, public = host.with_suffix(".pub").read_text().split()[:2]
        yield Sshd(port, name, user, f"[127.0.0.1]:{port} {kind} {public}\n", log)


def new_key(path: Path) -> Path:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path
