"""The rules for server.extra_environment: the variables that nobody may set, and the known ones.

A list of refused names always has holes: any library of the server may read a variable that
changes which code runs or which credentials it uses. So only names that MLflow and its stores
document pass by themselves; `server.allow_unknown_variables` lets others through, except for
those that contradict the unit or the other settings.
"""

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

# What a tracking server reads, from mlflow/environment_variables.py of 3.17.2 and the pages about
# its stores, proxies and traces. Left out on purpose, so that they need allow_unknown_variables:
# what opens the machine to clients (the remote assistant, foreign artifact schemes, private
# addresses for the gateway and webhooks, keys read from files, pickles), and what names a program.
KNOWN = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_CA_BUNDLE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_MAX_ATTEMPTS",
        "AWS_REGION",
        "AWS_REQUEST_CHECKSUM_CALCULATION",
        "AWS_RESPONSE_CHECKSUM_VALIDATION",
        "AWS_RETRY_MODE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "CURL_CA_BUNDLE",
        "DO_NOT_TRACK",
        "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH",
        "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
        "MLFLOW_DISABLE_AGENT_HINT",
        "MLFLOW_DISABLE_SCHEMA_DETAILS",
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_ENABLE_AI_GATEWAY",
        "MLFLOW_ENABLE_OTEL_GENAI_SEMCONV",
        "MLFLOW_ENABLE_OTLP_EXPORTER",
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
        "MLFLOW_ENABLE_WORKSPACES",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_GATEWAY_ALLOWED_PROVIDERS",
        "MLFLOW_GATEWAY_BUDGET_REFRESH_INTERVAL",
        "MLFLOW_GATEWAY_MAX_DECOMPRESSED_REQUEST_SIZE",
        "MLFLOW_GATEWAY_ROUTE_TIMEOUT_SECONDS",
        "MLFLOW_ICON_URL_ALLOWED_DOMAINS",
        "MLFLOW_ICON_URL_ALLOWED_SCHEMES",
        "MLFLOW_JUDGE_MAX_ITERATIONS",
        "MLFLOW_LOGGING_LEVEL",
        "MLFLOW_PRESIGNED_DOWNLOAD_URL_TTL_SECONDS",
        "MLFLOW_S3_ENDPOINT_URL",
        "MLFLOW_S3_EXPECTED_BUCKET_OWNER",
        "MLFLOW_S3_IGNORE_TLS",
        "MLFLOW_S3_UPLOAD_EXTRA_ARGS",
        "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH",
        "MLFLOW_SERVER_GRAPHQL_MAX_ALIASES",
        "MLFLOW_SERVER_GRAPHQL_MAX_ROOT_FIELDS",
        "MLFLOW_SERVER_JUDGE_INVOKE_MAX_WORKERS",
        "MLFLOW_SERVER_ONLINE_SCORING_MAX_WORKERS",
        "MLFLOW_SERVER_SCORER_INVOKE_BATCH_SIZE",
        "MLFLOW_SERVER_X_FRAME_OPTIONS",
        "MLFLOW_WEBHOOK_CACHE_TTL",
        "MLFLOW_WEBHOOK_DELIVERY_MAX_WORKERS",
        "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES",
        "MLFLOW_WEBHOOK_REQUEST_TIMEOUT",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
        "NO_COLOR",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SERVICE_NAME",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TZ",
    }
)
# The keys of the gateway's and the judges' providers (OPENAI_API_KEY), proxies, and groups of
# settings that hold only numbers, times and addresses.
_KNOWN = re.compile(
    r"[A-Z0-9_]+_API_KEY"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy"
    r"|MLFLOW_(SQLALCHEMYSTORE|HTTP|GENAI_EVAL|ONLINE_SCORING)_[A-Z_]+"
    r"|MLFLOW_(MULTIPART_(UP|DOWN)LOAD|GCS_(UP|DOWN)LOAD|WORKSPACE_ARTIFACT_ROOT_CACHE)_[A-Z_]+"
    r"|MLFLOW_SERVER_JOB_(DEFAULT_TIMEOUT|ENABLE_PERIODIC_TASKS|LEASE_TTL|TRANSIENT_ERROR_[A-Z_]+)"
    r"|MLFLOW_TRACE_(BUFFER|MAX|ROLLUPS|SAMPLING|TIMEOUT)_[A-Z_]+"
    r"|OTEL_EXPORTER_OTLP_[A-Z_]+"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Variables of the loader, the interpreter, systemd and the shell change which code runs, or break
# what the unit guarantees. *_NUM_THREADS: the workers are forked, which needs a single thread.
_SYSTEM = re.compile(
    r"(LD|PYTHON|LISTEN|WATCHDOG|SYSTEMD|GLIBC|MALLOC|GCONV|BASH|UVICORN)_?.*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|PWD|ENV|IFS|TMPDIR|TMP|TEMP|LANG|LC_ALL"
    r"|NOTIFY_SOCKET|INVOCATION_ID|JOURNAL_STREAM|CREDENTIALS_DIRECTORY|MAINPID"
    r"|(STATE|RUNTIME|CACHE|LOGS|CONFIGURATION)_DIRECTORY"
    r"|(OPENBLAS|OMP|MKL)_NUM_THREADS"
)


def variable_fault(name: str, value: object) -> Reason | None:
    """Why a variable may never be set, or None. The reason never contains the value."""
    if not _NAME.fullmatch(name):
        return Reason("is not a variable name", "use letters, digits and _, no digit first")
    if name in UNSUPPORTED:
        return Reason("is not supported by this image", "leave it out")
    internal = ("_MLFLOW", "MLFLOW_IMAGE_")
    if name.startswith(internal) or name.upper() == "PROMETHEUS_MULTIPROC_DIR":
        return Reason("is internal to the server", "leave it out")
    if _SYSTEM.fullmatch(name):
        return Reason("is reserved for the system", "leave it out")
    if isinstance(value, str) and "\0" in value:
        return Reason("contains a NUL character", "remove that character")
    return None


def is_known(name: str) -> bool:
    """Whether MLflow, or a library that it documents for its stores, reads this variable."""
    return name in KNOWN or bool(_KNOWN.fullmatch(name))


def unknown_fault(name: str) -> Reason:
    """Why a variable that is not known may not be set without allow_unknown_variables."""
    import difflib  # here: a boot with valid settings does not need it

    near = difflib.get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.8)
    remedy = "to pass it to the server anyway, add allow_unknown_variables: true below server"
    if near:
        remedy = f'did you mean "{near[0]}"? {remedy[0].upper()}{remedy[1:]}'
    return Reason("is not a variable that MLflow documents for a server", remedy)


def owned_fault(setting: str) -> Reason:
    """Why a variable that a setting owns may not be set."""
    return Reason("is set by another setting", f"use {setting}")
