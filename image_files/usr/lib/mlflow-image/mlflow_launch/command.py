"""Runs MLflow's own `mlflow server` command up to the point where it would start uvicorn.

The command runs in a forked child, which stops at that point; the uvicorn command line and the
environment that MLflow decided on come back through a pipe. A child that starts its server in
another way is stopped, and DiffersError says how it differs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mlflow_launch import mlflow_names, ready
from mlflow_launch.applications import Application
from mlflow_launch.log import say
from mlflow_launch.mlflow_names import DiffersError

# Audit events (PEP 578) of a process that starts another one.
_STARTS_A_PROCESS = frozenset(
    {
        *("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system"),
        *("os.fork", "os.forkpty"),
    }
)
# What a name or a signature that does not fit raises, if check() did not find it.
_NAMES_DIFFER = (ImportError, AttributeError, NameError, TypeError)
# Of these the text names modules and attributes; other texts may hold the value of a setting.
TEXT_HOLDS_NO_VALUE = (ImportError, AttributeError)
# What MLflow or PostgreSQL says when two servers make the tables of one database. psycopg2 names
# its errors after the conditions in PostgreSQL's documentation, appendix A.
_MADE_BY_ANOTHER = re.compile(
    r"UniqueViolation|Duplicate(Table|Column|Object)|DeadlockDetected|found version None"
)
_TABLES_WITHIN_S = 60.0
_TABLES_EVERY_S = 3.0
_LOOK_EVERY_S = 1.0
_STOPS_WITHIN_S = 10.0


@dataclass(frozen=True)
class ServerCommand:
    """What MLflow would have started. environment: the variables that it set or changed."""

    host: str
    port: int
    workers: int
    log_config: str
    environment: Mapping[str, str] = field(repr=False)


class CommandRefusedError(Exception):
    """MLflow's command ended with an error before it would have served; str() says why.

    exit_code: of the launcher.
    """

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def started(application: Application) -> Callable[[], ServerCommand]:
    """Start the command in a child; call the result to wait for what it decided.

    That call raises CommandRefusedError, or DiffersError when this MLflow does not fit.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _run_command(writable, application)
    os.close(writable)

    def finish() -> ServerCommand:
        with os.fdopen(readable, "rb") as pipe:
            _wait_for_answer(readable, child)
            line = pipe.readline()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not line:
            raise CommandRefusedError(f"`mlflow server` ended with exit code {code}")
        answer = json.loads(line)
        if "differs" in answer:
            raise DiffersError(answer["differs"])
        if "refused" in answer:
            raise CommandRefusedError(answer["refused"])
        return parsed(answer["argv"], answer["environment"], application)

    return finish


def finished(finish: Callable[[], ServerCommand], application: Application) -> ServerCommand:
    """What the command decided; once more while another server makes the same tables.

    MLflow's own lock is a file of one machine. Only one of two servers gets its tables into an
    empty PostgreSQL; the other finds them half made, or cannot make them any more.
    """
    deadline_s = time.monotonic() + _TABLES_WITHIN_S
    while True:
        try:
            return finish()
        except CommandRefusedError as error:
            if not _MADE_BY_ANOTHER.search(str(error)) or time.monotonic() > deadline_s:
                raise
        say("another server makes the tables at this moment; looking again")
        time.sleep(_TABLES_EVERY_S)
        finish = started(application)


def parsed(
    argv: list[str], environment: Mapping[str, str], application: Application
) -> ServerCommand:
    """The uvicorn command line that MLflow built, as data. Raises DiffersError."""
    flags = [word for word in argv[3:-1] if word in application.flags]
    words = [word for word in argv[3:-1] if word not in application.flags]
    options = dict(zip(words[::2], words[1::2], strict=False))
    known = mlflow_names.UVICORN_OPTIONS
    if (
        argv[1:3] != ["-m", mlflow_names.UVICORN]
        or argv[-1] != application.target
        or sorted(flags) != sorted(application.flags)
        or len(words) != 2 * len(known)
        or sorted(options) != sorted(known)
    ):
        raise DiffersError(f"it starts its server with `{_without_values(argv)}`")
    return ServerCommand(
        host=options["--host"],
        port=int(options["--port"]),
        workers=int(options["--workers"]),
        log_config=options["--log-config"],
        environment=dict(environment),
    )


def _without_values(argv: list[str]) -> str:
    """A command line for the journal: options without their values, which may be secret."""
    options = [word.partition("=")[0] for word in argv[3:-1] if word.startswith("-")]
    return " ".join(["python", *argv[1:3], *options, *argv[3:][-1:]])


def _wait_for_answer(readable: int, child: int) -> None:
    """Return when the child has answered or ended. Raises DiffersError when it serves instead.

    The last resort for a server that is started without an audit event (multiprocessing's
    "spawn"): its port answers, and nothing would ever come through the pipe.
    """
    host, port = os.environ.get("MLFLOW_HOST", ""), os.environ.get("MLFLOW_PORT", "")
    # Behind nginx, the port is nginx's.
    look = bool(host and port) and not os.environ.get(ready.SOCKET)
    if look and ready.listens(host, int(port)):
        say(f"port {port} is already in use by another program")
        look = False
    while not select.select([readable], [], [], _LOOK_EVERY_S)[0]:
        if look and ready.listens(host, int(port)):
            _stop_group(child)
            raise DiffersError(f"it starts its server without {mlflow_names.EXEC}")


def _stop_group(leader: int) -> None:
    """End a child and every process that it started."""
    deadline_s = time.monotonic() + _STOPS_WITHIN_S
    os.killpg(leader, signal.SIGTERM)
    while not os.waitpid(leader, os.WNOHANG)[0]:
        if time.monotonic() > deadline_s:
            os.kill(leader, signal.SIGKILL)
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _run_command(writable: int, application: Application) -> NoReturn:
    """The child's whole life."""
    code = 1
    last = LastError()
    try:
        os.setpgid(0, 0)
        before = dict(os.environ)
        for sentence in mlflow_names.check().command:
            _answer(writable, differs=sentence)
        _intercept(writable, before)
        logging.getLogger("mlflow").addHandler(last)
        cli: Any = getattr(importlib.import_module(mlflow_names.CLI), mlflow_names.CLI_GROUP)
        cli(["server", *application.words], standalone_mode=True)
        _answer(writable, differs="`mlflow server` ends without starting a server")
    except SystemExit as end:
        if not end.code:
            _answer(writable, differs="`mlflow server` ends without starting a server")
        code = end.code if isinstance(end.code, int) else 1
        if last.text:
            _answer(writable, refused=last.text)
    except _NAMES_DIFFER as error:
        traceback.print_exc()
        text = f": {error}" if isinstance(error, TEXT_HOLDS_NO_VALUE) else ""
        _answer(writable, differs=f"{type(error).__name__}{text}")
    except Exception as error:
        traceback.print_exc()
        _answer(writable, refused=_one_line(error))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class LastError(logging.Handler):
    """Keeps the last error that MLflow logged: its command ends with an exit code alone."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception of a record, or its message."""
        error = record.exc_info[1] if record.exc_info else record.msg
        self.text = _one_line(error) if isinstance(error, BaseException) else record.getMessage()


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _intercept(writable: int, before: Mapping[str, str]) -> None:
    """Answer and end this process as soon as MLflow starts its server, however it does."""

    def stop_here(*arguments: Any, **options: Any) -> NoReturn:
        argv = arguments[0] if arguments else None
        more = options.get(mlflow_names.EXEC_ENVIRONMENT)
        if not isinstance(argv, list) or not isinstance(more, Mapping):
            _answer(writable, differs=f"it calls {mlflow_names.EXEC} with other arguments")
        after = {**os.environ, **more}
        changed = {name: after[name] for name in after if before.get(name) != after[name]}
        say("MLflow's checks passed")
        _answer(writable, argv=[str(word) for word in argv], environment=changed)

    def stop_elsewhere(event: str, arguments: tuple[Any, ...]) -> None:
        listening = event == "socket.bind" and isinstance(arguments[1], tuple) and arguments[1][1]
        if listening or event in _STARTS_A_PROCESS:
            how = f"it starts its server by {event}, not by {mlflow_names.EXEC}"
            _answer(writable, differs=how)

    setattr(importlib.import_module(mlflow_names.SERVER), mlflow_names.EXEC, stop_here)
    # An audit hook sees every way that Python has; replacing functions would miss aliases.
    sys.addaudithook(stop_elsewhere)


def _answer(writable: int, **content: object) -> NoReturn:
    """Send the answer and end the process, whatever MLflow would catch or clean up."""
    sys.stdout.flush()
    with os.fdopen(writable, "wb") as pipe:
        pipe.write(json.dumps(content).encode() + b"\n")
    os._exit(0)
