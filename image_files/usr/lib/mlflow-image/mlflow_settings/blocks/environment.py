"""The rule for server.extra_environment: the variables that no setting owns and nobody may set."""

from __future__ import annotations

import re

from mlflow_settings.wording import Reason

# Options of `mlflow server` that this image does not offer.
UNSUPPORTED = frozenset(
    {
        "MLFLOW_ARTIFACTS_ONLY",
        "MLFLOW_GUNICORN_OPTS",
        "MLFLOW_STATIC_PREFIX",
        "MLFLOW_UVICORN_OPTS",
        "MLFLOW_WAITRESS_OPTS",
    }
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables of the loader, the interpreter, systemd and the shell change which code runs, or break
# what the unit guarantees. *_NUM_THREADS: the workers are forked, which needs a single thread.
_SYSTEM = re.compile(
    r"(LD|PYTHON|LISTEN|WATCHDOG|SYSTEMD|GLIBC|MALLOC|GCONV|BASH)_?.*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|PWD|ENV|IFS|TMPDIR|LANG|LC_ALL"
    r"|NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|CREDENTIALS_DIRECTORY|MAINPID"
    r"|(STATE|RUNTIME|CACHE|LOGS|CONFIGURATION)_DIRECTORY"
    r"|(OPENBLAS|OMP|MKL)_NUM_THREADS"
)


def variable_fault(name: str, value: object) -> Reason | None:
    """Why a variable may not be set, or None. The reason never contains the value."""
    if not _NAME.fullmatch(name):
        return Reason("is not a variable name", "use letters, digits and _, no digit first")
    if name in UNSUPPORTED:
        return Reason("is not supported by this image", "leave it out")
    if name.startswith(("_MLFLOW", "MLFLOW_IMAGE_")) or name == "prometheus_multiproc_dir":
        return Reason("is internal to the server", "leave it out")
    if _SYSTEM.fullmatch(name):
        return Reason("is reserved for the system", "leave it out")
    if isinstance(value, str) and "\0" in value:
        return Reason("contains a NUL character", "remove that character")
    return None


def owned_fault(setting: str) -> Reason:
    """Why a variable that a setting owns may not be set."""
    return Reason("is set by another setting", f"use {setting}")
