"""The smoke test's first question: is there an MLflow server at this URL that accepts us?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from mlflow_image.checks.smoke.protocol import Reporter, brief_text


def probe(url: str, reporter: Reporter) -> None:
    """Send a request that reaches the database; report as fatal what cannot be tested at all.

    Nothing has been written yet. Fatal are: a name that does not resolve, a refused
    connection, an invalid certificate, missing credentials, a rejected Host header, and a web
    server that is not MLflow. A server error, or no response in time, is a first row.
    """

    from mlflow.utils import credentials, rest_utils

    # MLflow's own functions, so that credentials and TLS are those of all later requests.
    rest: Any = rest_utils
    hosts: Any = credentials

    def ask() -> tuple[str, str]:
        try:
            response = rest.http_request(
                hosts.get_default_host_creds(url),
                "/api/2.0/mlflow/experiments/search",
                "GET",
                params={"max_results": 1},
                raise_on_status=False,
            )
        except Exception as error:
            if reason := connection_fault(error):
                raise reporter.fatal(
                    f"no server answers at {url}: {reason}", "check the address and the network"
                ) from error
            raise
        if objection := objection_to(response, url):
            raise reporter.fatal(*objection)
        return "status 200", f"status {response.status_code}{excerpt_of_error(response)}"

    reporter.compare("the server answers from its database", ask)


def objection_to(response: Any, url: str) -> tuple[str, str] | None:
    """(what, remedy) when this response means that the URL or the credentials are wrong."""
    status, text = response.status_code, response.text
    if response.history and not response.url.startswith(url):
        return (
            f"{url} redirects to {response.url.split('/api/')[0]}",
            "give the address that it redirects to: a redirected POST loses its content",
        )
    if status == 401:
        return (
            f"{url} requires credentials (status 401)",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if status == 403 and "host header" in text.lower():
        return (
            f"{url} rejects this host name in the Host header (status 403)",
            "list the name, with `:*` or its port, in the server's allowed_hosts",
        )
    if status == 403:
        return f"{url} rejects these credentials (status 403)", "use another user"
    if status < 500 and (status != 200 or not is_json(text)):
        return (
            f"{url} answers, but is not an MLflow server (status {status})",
            "check the address, its port and its path prefix",
        )
    return None


def connection_fault(error: BaseException) -> str:
    """Why no connection was made at all; empty for any error that comes later."""
    for cause in causes(error):
        fault = cause.reason if isinstance(cause, MaxRetryError) else cause
        if isinstance(fault, NewConnectionError | ConnectTimeoutError):
            return str(fault).rsplit(": ", 1)[-1]
        if isinstance(fault, SSLError | ProxyError):
            return brief_text(str(fault))
    return ""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what caused it, what caused that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def excerpt_of_error(response: Any) -> str:
    return "" if response.status_code == 200 else f": {brief_text(response.text)}"


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
