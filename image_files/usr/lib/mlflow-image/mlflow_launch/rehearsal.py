"""Makes the server's first calls before its workers are forked, so that no worker has to.

The first call builds FastAPI's data about its 81 routes, opens a store (which reads every table and
migration) and imports 20 more modules: 3 to 5 s in an emulated guest, for each worker. No
connection and no thread is left after the rehearsal (SQLAlchemy's documentation, "Using Connection
Pools with Multiprocessing or os.fork()").
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from mlflow_launch import mlflow_names, own_access, ready
from mlflow_launch.log import say

# The second opens the model registry, which the probe does not.
CALLS = (ready.PROBE, "/api/2.0/mlflow/registered-models/search?max_results=1")
_THREAD_ENDS_WITHIN_S = 5.0


def rehearse(application: Any, kinds: Sequence[str] = ()) -> None:
    """Make one call to each store, and close every connection that was opened.

    A call that fails is only logged: the workers' first calls will try again. kinds: of the stores
    (stores/watch.py).
    """
    for name in mlflow_names.LATE_MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "s3" in kinds:
        make_s3_client()
    with closing_connections():
        for path, status in zip(CALLS, asyncio.run(statuses(application)), strict=True):
            if status != 200:
                say(f"not ready yet: the server answered {status} to {path}")
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(_THREAD_ENDS_WITHIN_S)
    if threading.active_count() > 1:
        say(f"{threading.active_count()} threads run while the workers are forked; one is expected")
    say("rehearsed the first calls")


def make_s3_client() -> None:
    """Let MLflow make its client, which opens no connection: boto3 keeps the protocol's data."""
    with contextlib.suppress(Exception):  # the first call will raise it again
        module: Any = importlib.import_module(mlflow_names.S3_ARTIFACTS)
        getattr(module, mlflow_names.S3_CLIENT)()


async def statuses(application: Any) -> list[int]:
    """The HTTP status of each of CALLS."""
    return [await status_of(application, path) for path in CALLS]


async def status_of(application: Any, url: str) -> int:
    """Make one GET to an ASGI application, as uvicorn would; the status is 500 when it raises."""
    status = 500
    path, _, query = url.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        # localhost is always among the allowed hosts.
        "headers": [
            (b"host", b"localhost"),
            *(
                (name.lower().encode(), value.encode())
                for name, value in own_access.header().items()
            ),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    with contextlib.suppress(Exception):
        await application(scope, receive, send)
    return status


@contextlib.contextmanager
def closing_connections() -> Iterator[None]:
    """Close all connections of every database engine that is used inside the `with` block."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engines: set[Any] = set()

    def note(connection: Any) -> None:
        engines.add(connection.engine)

    event = (sqlalchemy.engine.Engine, "engine_connect", note)
    sqlalchemy.event.listen(*event)
    try:
        yield
    finally:
        sqlalchemy.event.remove(*event)
        for engine in engines:
            engine.dispose()
