"""Lets MLflow's own `mlflow server` command decide everything, up to the point where it would exec.

The command runs in a forked child that stops where uvicorn would be started; what it would have
started, and with which environment, comes back through a pipe.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_launch.log import say

APPLICATION = "mlflow.server.fastapi_app:app"
# What MLflow passes to uvicorn, with the number of words that each takes. Anything else means
# that a new MLflow wants something that this launcher does not know: it must not guess.
_KNOWN_OPTIONS = ("--host", "--port", "--workers", "--log-config")


@dataclass(frozen=True)
class ServerCommand:
    """What MLflow would have started. environment: the variables that it set or changed."""

    host: str
    port: int
    workers: int
    log_config: str
    environment: Mapping[str, str] = field(repr=False)


class CommandRefusedError(Exception):
    """MLflow's command ended before it would have served; its own output says why."""


def started() -> Callable[[], ServerCommand]:
    """Run the command in a child; call the result to wait for what it decided.

    That call raises CommandRefusedError.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _run_command(writable)
    os.close(writable)

    def finish() -> ServerCommand:
        with os.fdopen(readable, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        if status != 0 or not answer:
            code = os.waitstatus_to_exitcode(status)
            raise CommandRefusedError(f"`mlflow server` ended with exit code {code}")
        argv, environment = json.loads(answer)
        return parsed(argv, environment)

    return finish


def parsed(argv: list[str], environment: Mapping[str, str]) -> ServerCommand:
    """The uvicorn command line that MLflow built, as data. Raises CommandRefusedError."""
    words = argv[3:-1]
    options = dict(zip(words[::2], words[1::2], strict=False))
    if (
        argv[1:3] != ["-m", "uvicorn"]
        or argv[-1] != APPLICATION
        or len(words) != 2 * len(_KNOWN_OPTIONS)
        or sorted(options) != sorted(_KNOWN_OPTIONS)
    ):
        raise CommandRefusedError(
            "this MLflow starts its server in a way that the launcher does not know: "
            + " ".join(word for word in argv[1:] if word.startswith("-"))
        )
    return ServerCommand(
        host=options["--host"],
        port=int(options["--port"]),
        workers=int(options["--workers"]),
        log_config=options["--log-config"],
        environment=dict(environment),
    )


def import_server() -> Any:
    """Import what the command and the application have in common."""
    # MLflow turns its host checks on only where it sees uvicorn.
    importlib.import_module("uvicorn")
    return importlib.import_module("mlflow.server")


def application() -> Any:
    """Import MLflow's ASGI application, with the shorter ways of lean.py."""
    import_server()
    app: Any = importlib.import_module("mlflow.server.fastapi_app").app
    lean: Any = importlib.import_module("mlflow_launch.lean")
    app.middleware_stack = lean.stack(app)
    say("application imported")
    return app


def _run_command(writable: int) -> None:
    """The child's whole life: never returns."""
    code = 1
    try:
        before = dict(os.environ)
        server: Any = importlib.import_module("mlflow.server")
        cli: Any = importlib.import_module("mlflow.cli")

        def stop_here(argv: list[str], *, extra_env: Mapping[str, str], **_: object) -> None:
            after = {**os.environ, **extra_env}
            changed = {name: after[name] for name in after if before.get(name) != after[name]}
            with os.fdopen(writable, "wb") as pipe:
                pipe.write(json.dumps([argv, changed]).encode())
            say("MLflow's checks passed")
            sys.stdout.flush()
            os._exit(0)

        server._exec_cmd = stop_here
        cli.cli(["server"], standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) and end.code else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
