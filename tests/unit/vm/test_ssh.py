"""ssh: a guest that stops answering in the middle of a command does not stop us."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from mlflow_image.errors import Failure
from mlflow_image.vm import seed, ssh


class SilentServer(paramiko.ServerInterface):
    """An sshd of a guest that is reset as soon as it has a session: it accepts, then is silent."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        time.sleep(20)
        return False


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a silent server; the folder has a key for it."""
    seed.make_key(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            transport = paramiko.Transport(connection)
            transport.add_server_key(paramiko.ECDSAKey.generate())
            transport.start_server(server=SilentServer())

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.budget(6)
def test_a_guest_that_is_reset_during_a_command_ends_the_wait(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_CLOSE_AFTER_S", 0.2)
    shell = ssh.Shell(tmp_path, port, "ubuntu")
    started = time.monotonic()
    with pytest.raises(Failure):
        shell.run("true", timeout_s=1)
    assert time.monotonic() - started < 5
    shell.close()
