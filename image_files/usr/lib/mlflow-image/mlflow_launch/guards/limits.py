"""A request body that is larger than the settings allow gets 413; MLflow itself takes any size."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow_launch import mlflow_names

#: mlflow-configure's variable: the limit in bytes; absent: none.
LIMIT = "MLFLOW_IMAGE_UPLOAD_LIMIT"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def mend(module: Any) -> None:
    """Put the limit before everything else. module: mlflow_names.APPLICATION_MODULE."""
    add(getattr(module, mlflow_names.APPLICATION_NAME))


def add(application: Any) -> None:
    """Limit the requests of a FastAPI application as the settings say."""
    if limit := os.environ.get(LIMIT):
        application.add_middleware(Limited, limit=int(limit))


class Limited:
    """An ASGI application whose requests have at most `limit` bytes."""

    def __init__(self, app: Any, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limit:
            await self._refuse(send)
            return
        taken, refused = 0, False

        async def counted() -> Message:
            nonlocal taken, refused
            message = await receive()
            taken += len(message.get("body", b""))
            if taken <= self._limit:
                return message
            if not refused:
                refused = True
                await self._refuse(send)
            return {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            if not refused:
                await send(message)

        await self._app(scope, counted, unless_refused)

    async def _refuse(self, send: Send) -> None:
        message = f"The request is larger than {self._limit} bytes (server.upload_limit)."
        body = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": message}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
