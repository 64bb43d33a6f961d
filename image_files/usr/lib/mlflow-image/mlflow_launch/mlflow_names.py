"""Names of MLflow and its dependencies that may change in any release, and one check of them.

Nothing else in this package names a private part of MLflow. Where a name does not fit, the server
starts slower but starts: __main__.py falls back to the stock `mlflow server`, and lean.py leaves
the part in question as MLflow made it. prepare.py runs when the image is built and fails instead.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Reads its settings while it is imported: allowed hosts, CORS, the static prefix.
SERVER = "mlflow.server"
#: The function in SERVER that starts uvicorn; command.py replaces it in a child process.
EXEC = "_exec_cmd"
#: Its keyword argument with the variables that the server's processes get.
EXEC_ENVIRONMENT = "extra_env"
#: The module and the click group that `mlflow server` belongs to.
CLI = "mlflow.cli"
CLI_GROUP = "cli"
APPLICATION_MODULE = "mlflow.server.fastapi_app"
APPLICATION_NAME = "app"
APPLICATION = f"{APPLICATION_MODULE}:{APPLICATION_NAME}"
#: MLflow's command line is `python -m uvicorn`, these options with a value each, APPLICATION.
UVICORN = "uvicorn"
UVICORN_OPTIONS = ("--host", "--port", "--workers", "--log-config")
#: The application with users: the name for `mlflow server --app-name`, and what uvicorn calls.
AUTH = "mlflow.server.auth"
AUTH_APP_NAME = "basic-auth"
AUTH_FACTORY = "create_app"
AUTH_APPLICATION = f"{AUTH}:{AUTH_FACTORY}"
UVICORN_FACTORY = "--factory"
#: Its parts: the database of users, the check of a password, and what a worker remembers of those.
AUTH_STORE = "store"
AUTH_FLASK = "app"
AUTH_CHECK = "_authenticate_cached"
AUTH_FORGET = "_invalidate_user_auth_cache"
AUTH_CACHE = "_USER_AUTH_CACHE"
AUTH_CACHE_LOCK = "_USER_AUTH_CACHE_LOCK"
#: What it looks up for each call (guards/permissions.py).
AUTH_NEEDED_FOR_RUN = "_run_requirement"
AUTH_IS_ADMIN = "sender_is_admin"
AUTH_RESOLVE = "resolve_permissions"
AUTH_REQUEST = "authenticate_request"
AUTH_GRANTS = "list_grants"
AUTH_SESSIONS = "ManagedSessionMaker"
# What decides whether a request is allowed: False, or an answer with status 403.
AUTH_DECISIONS = ("authorize", "_before_request")
AUTH_LOOKUPS = (AUTH_NEEDED_FOR_RUN, AUTH_IS_ADMIN, AUTH_RESOLVE, AUTH_REQUEST)
AUTH_MIGRATIONS = "mlflow.server.auth.db.utils"
AUTH_MIGRATE = "migrate"
#: What its forms are signed with: the same in every worker.
AUTH_SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"  # noqa: S105 - a variable's name

#: The folder of its pages and scripts, below the environment's packages; GET /static-files/.
PAGES = "mlflow/server/js/build"
#: What the workers' uvicorn runs with.
UVICORN_NEEDS = ("uvloop", "httptools")

#: The class of the bridge from FastAPI to Flask, which is mounted once, over all routes.
BRIDGE = "_EfficientWSGIMiddleware"
BRIDGE_WSGI = "app"
#: Functions around every request that only act on paths below GATEWAY, or with workspaces on.
IDLE_MIDDLEWARE = ("gateway_timing_middleware", "workspace_context_middleware")
GATEWAY = "/gateway/"
VARIABLES = "mlflow.environment_variables"
WORKSPACES = "MLFLOW_ENABLE_WORKSPACES"

#: Imported by a worker while it starts: MLflow's clean-up, and anyio's way to run Flask.
LATE_MODULES = ("mlflow.server.assistant.session", "anyio._backends._asyncio")
#: uvicorn imports its parts by name while it starts; the checking child imports mlflow.cli.
IMPORTED_BY_A_SERVER = (
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    CLI,
    APPLICATION_MODULE,
    *LATE_MODULES,
)

#: MLflow's client for S3, which it keeps for five minutes.
S3_ARTIFACTS = "mlflow.store.artifact.s3_artifact_repo"
S3_CLIENT = "_get_s3_client"
#: Our own plugin (plugins/mlflow-hdfs), which MLflow finds by its entry point.
HDFS_ARTIFACTS = "mlflow_hdfs.repository"
HDFS_FAULTS = "mlflow_hdfs.faults"

#: How prepare.py makes an empty database (functions of DATABASE) and serves from it (variables).
DATABASE = "mlflow.store.db.utils"
MIGRATE = "_initialize_tables"
VERIFY = "_verify_schema"
ALEMBIC_CONFIG = "_get_alembic_config"
CREATE_ENGINE = "create_sqlalchemy_engine"
#: SQLAlchemy's dialect, and the value of its argument `executemany_mode` for batches.
PSYCOPG2_DIALECT = "sqlalchemy.dialects.postgresql.psycopg2"
BATCHES = "EXECUTEMANY_VALUES_PLUS_BATCH"
BACKEND_STORE = "_MLFLOW_SERVER_FILE_STORE"
REGISTRY_STORE = "_MLFLOW_SERVER_REGISTRY_STORE"
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
ARTIFACT_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
SERVE_ARTIFACTS = "_MLFLOW_SERVER_SERVE_ARTIFACTS"

#: Where MLflow stores local artifacts, opens locations, takes them from clients, and checks the
#: Host header and the origin of a request: what the guards change.
LOCAL_ARTIFACTS = "mlflow.store.artifact.local_artifact_repo"
LOCAL_REPOSITORY = "LocalArtifactRepository"
REPOSITORIES = "mlflow.store.artifact.artifact_repository_registry"
REPOSITORY_REGISTRY = "ArtifactRepositoryRegistry"
HANDLERS = "mlflow.server.handlers"
VALIDATE_LOCATION = "_validate_storage_location_uri"
SERVER_INFO = "build_server_info_payload"
SERVER_INFO_MODULE = "mlflow.server.server_info_api"  # has the function by its own name, too
WAYS_TO_THE_STORE = ("multipart_uploads_enabled", "multipart_downloads_enabled")
SECURITY = ("mlflow.server.fastapi_security", "mlflow.server.security")  # for either part
HOST_CHECK = "is_allowed_host_header"
ORIGIN_CHECK = "is_api_endpoint"
EXEMPT_CHECK = "is_health_endpoint"
#: For each module that a guard changes: the functions, and how MLflow calls them.
_GUARDED: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    LOCAL_ARTIFACTS: {
        f"{LOCAL_REPOSITORY}._publish_staged_artifact": (None, "staged", "target", None),
        f"{LOCAL_REPOSITORY}._get_or_create_artifact_dir": (None, "folder"),
        f"{LOCAL_REPOSITORY}.log_artifacts": (None, "folder", "path"),
        f"{LOCAL_REPOSITORY}.get_local_path": (None, "path"),
        f"{LOCAL_REPOSITORY}._download_file": (None, "path", "target"),
    },
    DATABASE: {CREATE_ENGINE: ("uri",)},
    REPOSITORIES: {f"{REPOSITORY_REGISTRY}.get_artifact_repository": (None, "uri")},
    HANDLERS: {VALIDATE_LOCATION: ("uri", "field"), SERVER_INFO: ()},
    SERVER_INFO_MODULE: {SERVER_INFO: ()},
    AUTH: {
        AUTH_FACTORY: (),
        AUTH_CHECK: ("name", "password"),
        AUTH_FORGET: ("name",),
        f"{AUTH_STORE}.get_user": ("name",),
        f"{AUTH_STORE}.has_user": ("name",),
        f"{AUTH_STORE}.update_user": ("name", None, True),
        f"{AUTH_STORE}.create_user": ("name", "password", True),
        f"{AUTH_STORE}.init_db": ("uri",),
        f"{AUTH_FLASK}.add_url_rule": ("rule",),
    },
    APPLICATION_MODULE: {f"{APPLICATION_NAME}.add_middleware": (None,)},
    **{
        part: {HOST_CHECK: ([], "host"), ORIGIN_CHECK: ("path",), EXEMPT_CHECK: ("path",)}
        for part in SECURITY
    },
}


class DiffersError(Exception):
    """The installed MLflow does not fit this launcher; str() is a sentence that says where."""


@dataclass(frozen=True)
class Check:
    """What does not fit, as sentences; an empty field means that this part fits.

    command: taking MLflow's own command over. bridge, middleware: the shorter ways of lean.py.
    """

    command: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()


def check(application: Any = None) -> Check:
    """Compare the installed MLflow with the names above: its command, or an imported application.

    Two calls, as the launcher's own process must not import CLI: that reads environment variables
    whose values only the command decides.
    """
    if application is None:
        return Check(command=tuple(_command()))
    return Check(bridge=tuple(_bridge(application)), middleware=tuple(_middleware(application)))


def _command() -> Iterator[str]:
    for name in (UVICORN, *UVICORN_NEEDS, SERVER):
        if not _exists(name):
            yield f"there is no module {name}"
            return
    # uvicorn comes first: MLflow turns its host checks on only where it finds it imported.
    importlib.import_module(UVICORN)
    execute = getattr(importlib.import_module(SERVER), EXEC, None)
    if not _exists(APPLICATION_MODULE):
        yield f"there is no module {APPLICATION_MODULE}"
    if execute is None:
        yield f"{SERVER} has no {EXEC}"
    elif not _takes(execute, [], **{EXEC_ENVIRONMENT: {}}, capture_output=False, synchronous=False):
        yield f"{SERVER}.{EXEC} takes other arguments"
    if not callable(getattr(importlib.import_module(CLI), CLI_GROUP, None)):
        yield f"{CLI} has no {CLI_GROUP}"


def _bridge(application: Any) -> Iterator[str]:
    found = bridges(application)
    if len(found) != 1 or not hasattr(found[0].app, BRIDGE_WSGI):
        yield f"its Flask part is not mounted as one {BRIDGE}"
    elif not hasattr(importlib.import_module("starlette.middleware.wsgi"), "build_environ"):
        yield "starlette.middleware.wsgi has no build_environ"


def version() -> str:
    """The installed MLflow's version, for messages."""
    metadata: Any = importlib.import_module("importlib.metadata")
    try:
        return str(metadata.version("mlflow"))
    except metadata.PackageNotFoundError:
        return "of an unknown version"


def guard_differs(name: str, module: Any) -> str:
    """What in a module of MLflow does not fit the guard that changes it; "" when all fits."""
    for dotted, arguments in _GUARDED[name].items():
        function = module
        for part in dotted.split("."):
            function = getattr(function, part, None)
        if function is None:
            return f"{name} has no {dotted}"
        if not _takes(function, *arguments):
            return f"{name}.{dotted} takes other arguments"
    return ""


def bridges(application: Any) -> list[Any]:
    """The routes of the application that lead to Flask."""
    routes = getattr(getattr(application, "router", None), "routes", ())
    return [route for route in routes if type(getattr(route, "app", None)).__name__ == BRIDGE]


def _middleware(application: Any) -> Iterator[str]:
    every = getattr(application, "user_middleware", ())
    if sorted(name for one in every if (name := idle_name(one))) != sorted(IDLE_MIDDLEWARE):
        yield f"its middleware is not {' and '.join(IDLE_MIDDLEWARE)}, once each"
    elif not hasattr(importlib.import_module(VARIABLES), WORKSPACES):
        yield f"{VARIABLES} has no {WORKSPACES}"


def idle_name(middleware: Any) -> str:
    """Which of IDLE_MIDDLEWARE this entry of Starlette's list is; "" when it is another."""
    dispatch = getattr(middleware, "kwargs", {}).get("dispatch")
    name = getattr(dispatch, "__name__", "")
    return name if name in IDLE_MIDDLEWARE else ""


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _takes(function: Any, *arguments: object, **options: object) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **options)
    except (TypeError, ValueError):
        return False
    return True
