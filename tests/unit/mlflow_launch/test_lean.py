"""lean: Flask's answers come through whole or as a stream; only idle middleware is left out."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from mlflow_launch import lean

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/api",
    "query_string": b"a=1",
    "headers": [(b"content-type", b"text/plain")],
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
}


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def served(wsgi: Wsgi, *body: bytes) -> list[dict[str, Any]]:
    """What the bridge sends for one request with a body in these pieces."""
    sent: list[dict[str, Any]] = []

    async def instead(*_: object) -> None:
        raise AssertionError("this is HTTP")

    async def run() -> None:
        pieces = [{"type": "http.request", "body": b, "more_body": True} for b in body]
        waiting = [*pieces, {"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            sent.append(dict(message))

        await lean.FlaskBridge(wsgi, instead)(dict(SCOPE), receive, send)

    asyncio.run(run())
    return sent


class Chunks:
    """A WSGI answer that notes whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed += 1


def answering(answer: Chunks, *headers: tuple[str, str], status: str = "200 OK") -> Wsgi:
    def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Chunks:
        start_response(status, list(headers))
        return answer

    return wsgi


def test_a_short_answer_of_known_length_comes_in_one_piece() -> None:
    answer = Chunks(b"hel", b"lo")
    wsgi = answering(answer, ("Content-Length", "5"), ("X-Two", "é"), status="201 CREATED")
    assert served(wsgi) == [
        {
            "type": "http.response.start",
            "status": 201,
            "headers": [(b"content-length", b"5"), (b"x-two", b"\xe9")],
        },
        {"type": "http.response.body", "body": b"hello", "more_body": False},
    ]
    assert answer.closed == 1


@pytest.mark.parametrize("length", ["", str(lean.WHOLE_BYTES + 1)])
def test_an_answer_of_unknown_or_great_length_comes_as_it_is_made(length: str) -> None:
    answer = Chunks(b"one", b"two")
    sent = served(answering(answer, *([("Content-Length", length)] if length else [])))
    assert [message.get("body") for message in sent] == [None, b"one", b"two", b""]
    assert [message.get("more_body") for message in sent] == [None, True, True, False]
    assert answer.closed == 1


def test_an_answer_without_a_body_has_a_head() -> None:
    sent = served(answering(Chunks(), status="204 NO CONTENT"))
    assert [message.get("status") for message in sent] == [204, None]


def test_the_application_reads_the_whole_body_and_the_address() -> None:
    def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body) + 3))])
        return [body, environ["QUERY_STRING"].encode()]

    assert served(echo, b"ab", b"cd")[1]["body"] == b"abcda=1"


def test_an_error_of_the_application_is_the_server_s_to_answer() -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        served(broken)


def test_what_is_not_http_goes_to_mlflow_s_own_bridge() -> None:
    seen = []

    async def instead(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    bridge = lean.FlaskBridge(answering(Chunks()), instead)
    asyncio.run(bridge({"type": "websocket"}, None, None))  # type: ignore[arg-type]
    assert seen == ["websocket"]


class Application:
    """As much of a Starlette application as is looked at."""

    def __init__(self, *names: str) -> None:
        def named(name: str) -> Middleware:
            async def dispatch(*_: object) -> None: ...

            dispatch.__name__ = name
            return Middleware(BaseHTTPMiddleware, dispatch=dispatch)

        self.user_middleware = [named(name) for name in names]
        self.router = SimpleNamespace(routes=[])
        self.seen: list[int] = []

    def build_middleware_stack(self) -> lean.Application:
        size = len(self.user_middleware)

        async def stack(scope: Any, receive: Any, send: Any) -> None:
            self.seen.append(size)

        return stack


def taken(app: Application, stack: lean.Application, path: str) -> int:
    """How many middleware functions a request to this path goes through."""
    asyncio.run(stack({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]
    return app.seen.pop()


@pytest.mark.budget(5)  # imports MLflow
def test_only_what_is_idle_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Application("hosts", "gateway_timing_middleware", "workspace_context_middleware")
    stack = lean.stack(app)
    assert taken(app, stack, "/api/2.0/mlflow/runs/create") == 1
    assert taken(app, stack, "/gateway/mine/invocations") == 3
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert taken(app, stack, "/api/2.0/mlflow/runs/create") == 3


def test_another_mlflow_keeps_all_of_its_middleware(capsys: pytest.CaptureFixture[str]) -> None:
    app = Application("hosts", "something_new", "workspace_context_middleware")
    assert taken(app, lean.stack(app), "/api") == 3
    said = capsys.readouterr()
    assert "all of it stays" in said.out + said.err
