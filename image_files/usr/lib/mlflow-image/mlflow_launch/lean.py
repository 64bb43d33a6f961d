"""Shortens the way of a request through MLflow's application, which saves a quarter of its time.

Measured natively, one client, 2 workers: 9.6 -> 7.3 ms of processor time for a `log_batch` of one
metric. Where the installed MLflow differs (mlflow_names.py), that part stays as MLflow made it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from mlflow_launch import mlflow_names
from mlflow_launch.log import say

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Coroutine[Any, Any, None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# An answer whose declared length is at most this is sent in one piece, a longer one as a stream.
WHOLE_BYTES = 1 << 20
# Of a request's body, for each time that something is done with it.
GATHER_BYTES = 1 << 20
# Objects that are made before the collector looks at the young ones (Python's own: 700). A
# request makes thousands, so that most requests run without a collection.
COLLECT_AFTER = 20_000


def shorten(app: Any) -> None:
    """Give MLflow's FastAPI application the shorter ways that fit it; log which do not."""
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    found = mlflow_names.check(app)
    for sentence in (*found.bridge, *found.middleware):
        say(f"this MLflow differs: {sentence}; that part stays as MLflow made it, and is slower")
    if not found.bridge:
        (route,) = mlflow_names.bridges(app)
        route.app = FlaskBridge(getattr(route.app, mlflow_names.BRIDGE_WSGI), route.app)
    if not found.middleware:
        app.middleware_stack = stack(app)


def stack(app: Any) -> Application:
    """Two stacks of middleware over the same routes; each request takes the one that it needs.

    One is MLflow's own. The other leaves out the functions that do nothing in most requests:
    each costs a task and a stream of its own.
    """
    variables: Any = importlib.import_module(mlflow_names.VARIABLES)
    workspaces: Any = getattr(variables, mlflow_names.WORKSPACES)
    whole: Application = app.build_middleware_stack()
    every = app.user_middleware
    app.user_middleware = [one for one in every if not mlflow_names.idle_name(one)]
    short: Application = app.build_middleware_stack()
    app.user_middleware = every

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "PUT":  # an artifact
            receive = gathered(receive)
        needs_all = mlflow_names.GATEWAY in scope.get("path", "") or workspaces.get()
        await (whole if needs_all else short)(scope, receive, send)

    return choose


def gathered(receive: Receive) -> Receive:
    """Hands the body of a request on in pieces of about GATHER_BYTES, not in uvicorn's of 64 KiB.

    MLflow wakes a thread for each piece to write it: 8000 times for 500 MB.
    """
    kept: list[Message] = []

    async def fewer() -> Message:
        message = kept.pop() if kept else await receive()
        if message["type"] != "http.request":
            return message
        pieces, size = [message.get("body", b"")], len(message.get("body", b""))
        more = message.get("more_body", False)
        while more and size < GATHER_BYTES:
            message = await receive()
            if message["type"] != "http.request":  # the client has gone
                kept.append(message)
                break
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            more = message.get("more_body", False)
        return _body_of(b"".join(pieces), more=more)

    return fewer


class FlaskBridge:
    """Serves a WSGI application to ASGI; `instead` gets everything that is not HTTP.

    Starlette's bridge wakes the event loop for the head, for each chunk and for the end of an
    answer, and waits each time. Here an answer of known, moderate length is sent in one piece.
    """

    def __init__(self, wsgi: Any, instead: Application) -> None:
        self._wsgi = wsgi
        self._instead = instead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._instead(scope, receive, send)
            return
        build: Any = importlib.import_module("starlette.middleware.wsgi").build_environ
        environ = build(scope, await _body(receive))
        answer = Answer(send)
        rest = await anyio.to_thread.run_sync(answer.produce, self._wsgi, environ)
        for message in rest:
            await send(message)


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


class Answer:
    """One answer of a WSGI application, as ASGI messages; made in a worker thread (PEP 3333)."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: Message | None = None
        self._head_is_sent = False

    def produce(self, wsgi: Any, environ: dict[str, Any]) -> list[Message]:
        """Run the application; returns the messages that are still to be sent."""
        chunks: Iterable[bytes] = wsgi(environ, self._start)
        try:
            if self._is_short():
                return [self._begun(), _body_message(b"".join(chunks), more=False)]
            for chunk in chunks:
                self._stream(chunk)
            rest = [] if self._head_is_sent else [self._begun()]
            return [*rest, _body_message(b"", more=False)]
        finally:
            getattr(chunks, "close", lambda: None)()

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info and self._head_is_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        self._head = {
            "type": "http.response.start",
            "status": int(status.partition(" ")[0]),
            "headers": [
                (name.strip().lower().encode("latin-1"), value.strip().encode("latin-1"))
                for name, value in headers
            ],
        }
        return self._stream

    def _is_short(self) -> bool:
        headers = dict(self._head["headers"]) if self._head else {}
        length = headers.get(b"content-length", b"")
        return length.isdigit() and int(length) <= WHOLE_BYTES

    def _begun(self) -> Message:
        if self._head is None:
            raise RuntimeError("the WSGI application answered without calling start_response")
        return self._head

    def _stream(self, chunk: bytes) -> None:
        """Send a chunk from the worker thread, and the head before the first one."""
        if not self._head_is_sent:
            anyio.from_thread.run(self._send, self._begun())
            self._head_is_sent = True
        anyio.from_thread.run(self._send, _body_message(chunk, more=True))


def _body_of(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def _body_message(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
