"""What a schema cannot say about settings: each rule gives (message, remedy), or None when kept."""

from __future__ import annotations

import posixpath
import re

from mlflow_settings.wording import shown

STATE_DIRECTORY = "/var/lib/mlflow"

# Variables that a setting owns, with the setting to use instead. Everything that render.py
# writes is here (a test compares them), and what would undo it.
OWNED_VARIABLES = {
    "MLFLOW_ARTIFACTS_DESTINATION": "artifact_store",
    "MLFLOW_ARTIFACTS_ONLY": "",
    "MLFLOW_BACKEND_STORE_URI": "backend_store",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "artifact_store",
    "MLFLOW_GUNICORN_OPTS": "",
    "MLFLOW_HOST": "server.host",
    "MLFLOW_PORT": "server.port",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": "backend_store",
    "MLFLOW_REGISTRY_STORE_URI": "backend_store",
    "MLFLOW_REGISTRY_URI": "backend_store",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "server.allowed_hosts",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "server.allowed_origins",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "server.allowed_hosts",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "server.job_execution",
    "MLFLOW_SERVE_ARTIFACTS": "artifact_store",
    "MLFLOW_STATIC_PREFIX": "",
    "MLFLOW_TRACKING_URI": "backend_store",
    "MLFLOW_UVICORN_OPTS": "",
    "MLFLOW_WAITRESS_OPTS": "",
    "MLFLOW_WORKERS": "server.workers",
}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The loader's, the interpreter's, systemd's and the shell's: they would change which code runs,
# or what the unit promises. *_NUM_THREADS: workers are forked, which needs a single thread.
_SYSTEM_VARIABLE = re.compile(
    r"(LD|PYTHON|LISTEN|WATCHDOG|SYSTEMD|GLIBC|MALLOC|GCONV|BASH)_?.*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|PWD|ENV|IFS|TMPDIR|LANG|LC_ALL"
    r"|NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|CREDENTIALS_DIRECTORY|MAINPID"
    r"|(STATE|RUNTIME|CACHE|LOGS|CONFIGURATION)_DIRECTORY"
    r"|(OPENBLAS|OMP|MKL)_NUM_THREADS"
)
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9._/-]+")

Worded = tuple[str, str]


def variable_fault(name: str, value: object) -> Worded | None:
    """Whether an extra environment variable may be set. Never repeats the value."""
    if not _VARIABLE.fullmatch(name):
        return "is not a variable's name", "use letters, digits and _, no digit first"
    if name in OWNED_VARIABLES:
        setting = OWNED_VARIABLES[name]
        return "is decided elsewhere", f"use {setting}" if setting else "leave it out"
    if name.startswith(("_MLFLOW", "MLFLOW_IMAGE_")) or name == "prometheus_multiproc_dir":
        return "is private to the server", "leave it out"
    if _SYSTEM_VARIABLE.fullmatch(name):
        return "belongs to the system", "leave it out"
    if isinstance(value, str) and "\0" in value:
        return "holds a NUL character", "leave that character out"
    return None


def state_path_fault(path: str) -> Worded | None:
    """Whether a path is a plain one below the only directory that the server may write."""
    example = f"write a path such as {STATE_DIRECTORY}/name"
    plain = posixpath.normpath(path)
    if not path.startswith("/"):
        return f"is {shown(path)}, not an absolute path", example
    if not _PATH_CHARACTERS.fullmatch(path):
        return f"is {shown(path)}, a path with unusual characters", example
    if not plain.startswith(STATE_DIRECTORY + "/"):
        message = f"is {shown(path)}, where the server cannot write"
        return message, f"choose a path below {STATE_DIRECTORY}"
    if plain != path:
        return f"is {shown(path)}, not written plainly", f"write {plain}"
    return None


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies inside the other."""
    shorter, longer = sorted((one, other), key=len)
    return longer == shorter or longer.startswith(shorter + "/")
