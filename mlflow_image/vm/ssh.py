"""ssh into one VM: a connection that stays for many commands, and the words for ssh(1)."""

from __future__ import annotations

import logging
import socket
import threading
import time
from pathlib import Path

import paramiko

from mlflow_image.command import Completed, last_lines, shown
from mlflow_image.errors import Failure
from mlflow_image.vm.seed import KEY_NAME

KNOWN_HOSTS = "known_hosts"
#: The VM's name in its known_hosts: its port may change from one start to the next.
HOST_ALIAS = "vm"
CONNECT_TIMEOUT_S = 30.0
GREETING_TIMEOUT_S = 3.0

# A connection that breaks while the guest reboots is no news, and is reported by us.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Unreachable(Failure):
    """sshd does not answer yet, or lets us not in."""


class Shell:
    """Commands in the VM of a directory, over one connection that is made when needed.

    The host key is learnt at the first connection and must stay the same after.
    """

    def __init__(self, directory: Path, port: int, user: str) -> None:
        self._directory = directory
        self._port = port
        self._user = user
        self._client: paramiko.SSHClient | None = None

    def run(
        self, line: str, *, stdin: str | None = None, check: bool = True, timeout_s: float = 300
    ) -> Completed:
        """Run a shell line in the guest; raises Failure on a non-zero exit code when `check`.

        Also raises Failure when the guest cannot be reached or does not finish in time.
        """
        started = time.monotonic()
        transport = self._connected().get_transport()
        if transport is None:
            self.close()
            raise Unreachable("the connection to the VM broke")
        try:
            with transport.open_session(timeout=CONNECT_TIMEOUT_S) as channel:
                code, out, err = _execute(channel, line, stdin, started + timeout_s)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise Unreachable(f"the connection to the VM broke during `{line}`: {error}") from error
        if code is None:
            self.close()
            raise Failure(f"`{line}` took longer than {timeout_s:.0f} s in the VM")
        done = Completed((line,), code, out, err, time.monotonic() - started)
        if check and code != 0:
            raise Failure(
                f"in the VM, `{shown([line])}` ended with exit code {code}",
                evidence=last_lines(err or out),
            )
        return done

    def answers(self) -> bool:
        """Whether a command runs in the guest just now."""
        try:
            return self.run("true", check=False, timeout_s=CONNECT_TIMEOUT_S).returncode == 0
        except Failure:
            return False

    def close(self) -> None:
        """Drop the connection; the next command makes a new one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> paramiko.SSHClient:
        if self._client is None:
            self._client = self._connect()
        return self._client

    def _connect(self) -> paramiko.SSHClient:
        sock = connect_to_sshd(self._port)
        client = paramiko.SSHClient()
        known = self._directory / KNOWN_HOSTS
        known.touch(mode=0o600)
        client.load_host_keys(str(known))
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())  # noqa: S507 - loopback, then fixed
        try:
            client.connect(
                HOST_ALIAS,
                username=self._user,
                pkey=paramiko.Ed25519Key.from_private_key_file(str(self._directory / KEY_NAME)),
                sock=sock,
                allow_agent=False,
                look_for_keys=False,
                timeout=CONNECT_TIMEOUT_S,
                banner_timeout=CONNECT_TIMEOUT_S,
                auth_timeout=CONNECT_TIMEOUT_S,
            )
        except paramiko.BadHostKeyException as error:
            client.close()
            raise Failure(
                "the VM shows another ssh host key than at its first connection",
                remedy=f"if that is right, remove {known}",
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise Unreachable(f"ssh as {self._user} to port {self._port}: {error}") from error
        return client


def connect_to_sshd(port: int, timeout_s: float = GREETING_TIMEOUT_S) -> socket.socket:
    """A connection over which sshd has begun to greet; raises Unreachable when it does not.

    QEMU accepts for the guest long before the guest listens, so that a connection alone
    says nothing, and paramiko's own wait for the greeting prints a traceback.
    """
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout_s)
        try:
            if sock.recv(4, socket.MSG_PEEK) == b"SSH-":
                sock.settimeout(None)
                return sock
        except OSError:
            sock.close()
            raise
        sock.close()
    except OSError as error:
        raise Unreachable(f"sshd does not answer at port {port}: {error}") from error
    raise Unreachable(f"sshd does not answer at port {port}")


def argv(directory: Path, port: int, user: str, line: str | None = None) -> list[str]:
    """The words for ssh(1) to the VM, interactive without a `line`; they share our known_hosts."""
    options = {
        "UserKnownHostsFile": directory / KNOWN_HOSTS,
        "HostKeyAlias": HOST_ALIAS,
        "StrictHostKeyChecking": "accept-new",
        "HashKnownHosts": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", "none", "-i", str(directory / KEY_NAME), "-p", str(port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, f"{user}@127.0.0.1", *([line] if line is not None else [])]


def _execute(
    channel: paramiko.Channel, line: str, stdin: str | None, deadline: float
) -> tuple[int | None, str, str]:
    """Exit code (None: out of time), stdout, stderr of a line."""
    outputs: dict[str, bytes] = {}

    def drain(name: str) -> None:
        file = channel.makefile("rb") if name == "out" else channel.makefile_stderr("rb")
        outputs[name] = file.read()

    channel.exec_command(line)
    readers = [threading.Thread(target=drain, args=(name,), daemon=True) for name in ("out", "err")]
    for reader in readers:
        reader.start()
    if stdin:
        channel.sendall(stdin.encode())
    channel.shutdown_write()
    for reader in readers:
        reader.join(max(0.0, deadline - time.monotonic()))
    if any(reader.is_alive() for reader in readers):
        return None, "", ""
    code = channel.recv_exit_status()
    return code, _text(outputs.get("out", b"")), _text(outputs.get("err", b""))


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
