"""ssh into one VM: a connection that is reused for many commands, and arguments for ssh(1)."""

from __future__ import annotations

import logging
import socket
import threading
import time
from pathlib import Path

import paramiko

from mlflow_image import watch
from mlflow_image.command import Completed, last_lines, shown
from mlflow_image.errors import Failure
from mlflow_image.vm.seed import KEY_NAME

KNOWN_HOSTS = "known_hosts"
#: The VM's name in its known_hosts: its port may change from one start to the next.
HOST_ALIAS = "vm"
CONNECT_TIMEOUT_S = 30.0
VERSION_TIMEOUT_S = 3.0
# After the deadline of a command; until then its own check reports it.
_CLOSE_AFTER_S = 2.0

# Connections break whenever a guest reboots; we report the cases that matter ourselves.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Unreachable(Failure):
    """sshd does not answer yet, or rejects our key."""


class Shell:
    """Runs commands in the VM of a directory over one connection, opened when it is needed.

    The host key of the first connection is stored; later connections must show the same key.
    """

    def __init__(self, directory: Path, port: int, user: str) -> None:
        self._directory = directory
        self._port = port
        self._user = user
        self._client: paramiko.SSHClient | None = None

    def run(
        self, line: str, *, stdin: str | None = None, check: bool = True, timeout_s: float = 300
    ) -> Completed:
        """Run a shell line in the guest.

        Raises Failure when the exit code is not 0 and `check` is set, when the line takes
        longer than `timeout_s`, and, as Unreachable, when the guest cannot be reached.
        """
        started = time.monotonic()
        transport = self._connected().get_transport()
        if transport is None:
            self.close()
            raise Unreachable("the ssh connection to the VM was lost")
        try:
            with transport.open_session(timeout=CONNECT_TIMEOUT_S) as channel:
                code, out, err = _execute(channel, line, stdin, started + timeout_s)
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            raise Unreachable(
                f"the ssh connection to the VM was lost during `{line}`: {error}"
            ) from error
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
        """Whether the guest runs a command now."""
        try:
            return self.run("true", check=False, timeout_s=CONNECT_TIMEOUT_S).returncode == 0
        except Failure:
            return False

    def close(self) -> None:
        """Close the connection; the next command opens a new one."""
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
                "the VM's ssh host key is not the one of the first connection",
                remedy=f"if the key was changed on purpose, remove {known}",
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise Unreachable(f"ssh as {self._user} to port {self._port}: {error}") from error
        return client


def connect_to_sshd(port: int, timeout_s: float = VERSION_TIMEOUT_S) -> socket.socket:
    """A connection on which sshd has begun to send its version; raises Unreachable otherwise.

    QEMU accepts connections long before the guest listens, so a connection alone proves
    nothing, and paramiko prints a traceback when it waits for the version in vain.
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
        raise Unreachable(f"sshd does not answer on port {port}: {error}") from error
    raise Unreachable(f"sshd does not answer on port {port}")


def argv(directory: Path, port: int, user: str, line: str | None = None) -> list[str]:
    """The arguments of ssh(1) for the VM, with our known_hosts; without `line`, interactive."""
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
    """Run a line and return its exit code (None: not finished by the deadline), stdout, stderr.

    paramiko waits for some answers without a limit, and a guest that was reset never sends them:
    QEMU keeps the connection open. So the channel is closed after the deadline, which ends these
    waits with an SSHException.
    """
    grace_s = deadline + _CLOSE_AFTER_S - time.monotonic()
    overdue = threading.Timer(max(0.0, grace_s), channel.close)
    overdue.daemon = True
    overdue.start()
    try:
        return _answer(channel, line, stdin, deadline)
    finally:
        overdue.cancel()


def _answer(
    channel: paramiko.Channel, line: str, stdin: str | None, deadline: float
) -> tuple[int | None, str, str]:
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
        while reader.is_alive() and time.monotonic() < deadline:
            watch.check()
            reader.join(max(0.0, min(watch.INTERVAL_S, deadline - time.monotonic())))
    if any(reader.is_alive() for reader in readers):
        return None, "", ""
    code = channel.recv_exit_status()
    return code, _text(outputs.get("out", b"")), _text(outputs.get("err", b""))


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
