"""QEMU's monitor (QMP): sends a command over the VM's Unix socket and returns the answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from qemu.qmp import ExecuteError, QMPClient, QMPError

from mlflow_image.errors import Failure

SOCKET_NAME = "qmp.sock"
ANSWER_TIMEOUT_S = 15.0


@contextmanager
def short_path(directory: Path, name: str) -> Iterator[str]:
    """A path to a socket that fits into sun_path (108 bytes), however long the directory's is."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def execute(
    directory: Path,
    name: str,
    arguments: dict[str, object] | None = None,
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> object:
    """Run one QMP command in the VM of this directory and return its answer.

    Raises Failure when QEMU does not answer in time or refuses the command.
    """

    async def conversation(address: str) -> object:
        client = QMPClient("mlflow-image")
        await client.connect(address)
        try:
            return await client.execute(name, arguments)
        finally:
            await client.disconnect()

    try:
        with short_path(directory, SOCKET_NAME) as address:
            return asyncio.run(asyncio.wait_for(conversation(address), timeout_s))
    except ExecuteError as error:
        raise Failure(f"QEMU refused `{name}`: {error}") from error
    except (QMPError, OSError, asyncio.TimeoutError) as error:
        raise Failure(f"QEMU's monitor did not answer `{name}`: {error}") from error


def human(directory: Path, line: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """Run a line of the human monitor and return its output, which is also how it reports errors.

    Raises Failure when QEMU does not answer in time.
    """
    arguments: dict[str, object] = {"command-line": line}
    return cast(
        str, execute(directory, "human-monitor-command", arguments, timeout_s=timeout_s)
    ).strip()
