"""lean: Flask's answers arrive in one piece or as a stream; only idle middleware is left out."""

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

from mlflow_launch import lean, mlflow_names

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
    """Restores the collector's thresholds."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def served(wsgi: Wsgi, *body: bytes) -> list[dict[str, Any]]:
    """What the bridge sends for one request whose body arrives in these pieces."""
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
    """A WSGI answer that counts how often it was closed."""

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


def passed_on(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What an application receives of an upload."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def run() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        fewer = lean.gathered(receive)
        while not found or found[-1].get("more_body"):
            found.append(dict(await fewer()))
        return found

    return asyncio.run(run())


def piece(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_an_upload_is_handed_on_in_large_pieces_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "GATHER_BYTES", 4)
    sent = [piece(b"abc"), piece(b"de"), piece(b""), piece(b"f"), piece(b"g", more=False)]
    assert passed_on(*sent) == [piece(b"abcde"), piece(b"fg", more=False)]
    assert passed_on(piece(b"", more=False)) == [piece(b"", more=False)]


def test_an_upload_that_the_client_breaks_off_stays_broken_off() -> None:
    gone = {"type": "http.disconnect"}
    assert passed_on(piece(b"abc"), piece(b"de"), gone) == [piece(b"abcde"), gone]
    assert passed_on(gone) == [gone]


def test_a_short_answer_of_known_length_is_sent_in_one_piece() -> None:
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
def test_an_answer_of_unknown_or_great_length_is_streamed(length: str) -> None:
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


def test_an_error_of_the_application_reaches_the_server() -> None:
    def broken(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        served(broken)


def test_a_request_that_is_not_http_goes_to_mlflow_s_own_bridge() -> None:
    seen = []

    async def instead(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    bridge = lean.FlaskBridge(answering(Chunks()), instead)
    asyncio.run(bridge({"type": "websocket"}, None, None))  # type: ignore[arg-type]
    assert seen == ["websocket"]


class Application:
    """A stand-in for a Starlette application: its middleware, and Flask mounted by `bridge`."""

    middleware_stack: lean.Application | None = None

    def __init__(self, *names: str, bridge: str = mlflow_names.BRIDGE) -> None:
        def named(name: str) -> Middleware:
            async def dispatch(*_: object) -> None: ...

            dispatch.__name__ = name
            return Middleware(BaseHTTPMiddleware, dispatch=dispatch)

        self.user_middleware = [named(name) for name in names]
        self.bridge = type(bridge, (), {"app": staticmethod(answering(Chunks()))})()
        self.router = SimpleNamespace(routes=[SimpleNamespace(app=self.bridge)])
        self.seen: list[int] = []

    def build_middleware_stack(self) -> lean.Application:
        size = len(self.user_middleware)

        async def stack(scope: Any, receive: Any, send: Any) -> None:
            self.seen.append(size)

        return stack


def taken(app: Application, path: str) -> int:
    """How many middleware functions a request to this path goes through."""
    stack = app.middleware_stack or app.build_middleware_stack()  # as Starlette does
    asyncio.run(stack({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]
    return app.seen.pop()


@pytest.mark.budget(5)  # imports MLflow
def test_only_idle_middleware_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Application("hosts", *mlflow_names.IDLE_MIDDLEWARE)
    lean.shorten(app)
    assert taken(app, "/api/2.0/mlflow/runs/create") == 1
    assert taken(app, "/gateway/mine/invocations") == 3
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    assert taken(app, "/api/2.0/mlflow/runs/create") == 3
    assert isinstance(app.router.routes[0].app, lean.FlaskBridge)
    assert "differs" not in capsys.readouterr().err


@pytest.mark.budget(5)  # imports MLflow
def test_an_mlflow_with_other_middleware_keeps_all_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = Application("hosts", "something_new", "workspace_context_middleware")
    lean.shorten(app)
    assert taken(app, "/api") == 3
    assert isinstance(app.router.routes[0].app, lean.FlaskBridge)
    assert "this MLflow differs: its middleware is not gateway_timing" in capsys.readouterr().err


@pytest.mark.budget(5)  # imports MLflow
@pytest.mark.parametrize("routes", ["another class", "none", "two"])
def test_an_mlflow_that_mounts_flask_in_another_way_keeps_its_bridge(
    routes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = mlflow_names.IDLE_MIDDLEWARE
    app = Application(*names, bridge="Other") if routes == "another class" else Application(*names)
    app.router.routes *= {"none": 0, "two": 2}.get(routes, 1)
    lean.shorten(app)
    assert all(route.app is app.bridge for route in app.router.routes)
    assert taken(app, "/api") == 0
    assert "this MLflow differs: its Flask part is not mounted as" in capsys.readouterr().err


@pytest.mark.budget(5)  # imports MLflow
def test_an_application_of_another_kind_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    app = object()
    lean.shorten(app)
    assert capsys.readouterr().err.count("this MLflow differs") == 2
