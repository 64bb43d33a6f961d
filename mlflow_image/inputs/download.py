"""HTTP downloads: temporary failures are retried, permanent ones are reported with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3 import Retry
from urllib3.exceptions import (
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from mlflow_image import watch
from mlflow_image.errors import Failure
from mlflow_image.files import CHUNK_BYTES

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60

#: Waits 0, 1, 2 and 4 s between attempts, or as long as the server's Retry-After asks for. Few
#: attempts to connect: an unreachable host must be reported soon.
RETRY = Retry(
    total=4,
    connect=2,
    read=2,
    backoff_factor=0.5,
    retry_after_max=60,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,  # the last response contains the status
)
#: How often a file is requested when the connection breaks in the middle of it.
BODY_ATTEMPTS = 3

#: Called with (bytes received, total bytes or 0 when unknown).
OnBytes = Callable[[int, int], None]


def download(
    url: str, target: Path, name: str, on_bytes: OnBytes | None = None, *, retry: Retry = RETRY
) -> None:
    """Download `url` into the file `target`, flushed to the disk.

    name: what the user knows the file by. Raises Failure with name, URL and reason when all
    attempts have failed.
    """
    try:
        with session(retry) as http:
            for attempt in range(1, BODY_ATTEMPTS + 1):
                try:
                    return receive(http, url, target, on_bytes)
                except ChunkedEncodingError:
                    if attempt == BODY_ATTEMPTS:
                        raise
    except requests.RequestException as error:
        raise Failure(
            f"{name} could not be fetched from {url}: {urlsplit(url).hostname} {why(error)}",
            remedy="check the network; or run `invoke fetch` on another machine, copy its cache "
            "and build with --offline",
        ) from error


def why(error: requests.RequestException) -> str:
    """Why a request failed, worded to follow the host's name: "answers with status 404"."""
    if error.response is not None:
        return f"answers with status {error.response.status_code}"
    if isinstance(error, ChunkedEncodingError):
        return "closed the connection before the end of the file"
    cause = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError):
        cause = cause.reason
    if isinstance(cause, urllib3.exceptions.ProxyError):
        cause = cause.original_error
    via = " through the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
    if isinstance(cause, NameResolutionError):
        return f"cannot be resolved by DNS{via}"
    if isinstance(cause, NewConnectionError) and isinstance(cause.__cause__, OSError):
        return f"cannot be reached{via}: {cause.__cause__.strerror}"
    if isinstance(error, requests.Timeout) or isinstance(cause, urllib3.exceptions.TimeoutError):
        return f"does not answer in time{via}"
    if isinstance(cause, urllib3.exceptions.SSLError):
        return f"cannot be authenticated by TLS: {cause}"
    if isinstance(cause, ProtocolError):
        return f"closed the connection{via} without an answer"
    return f"cannot be reached{via}: {cause or error}"


def session(retry: Retry) -> requests.Session:
    """An HTTP session that retries, and that receives files as they are."""
    http = requests.Session()
    # With a content encoding, Content-Length would not be the size of the file.
    http.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        http.mount(scheme, HTTPAdapter(max_retries=retry))
    return http


def receive(http: requests.Session, url: str, target: Path, on_bytes: OnBytes | None) -> None:
    """One attempt. Raises RequestException; ChunkedEncodingError for a body that is too short."""
    with http.get(url, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)) as response:
        response.raise_for_status()
        total_bytes = int(response.headers.get("Content-Length", 0))
        received_bytes = 0
        with target.open("wb") as file:
            for chunk in response.iter_content(CHUNK_BYTES):
                watch.check()
                received_bytes += file.write(chunk)
                if on_bytes:
                    on_bytes(received_bytes, total_bytes)
            file.flush()
            os.fsync(file.fileno())
