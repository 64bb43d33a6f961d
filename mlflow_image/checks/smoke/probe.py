"""The smoke test's first question: is there an MLflow server behind this URL that lets us in?"""

from __future__ import annotations

import json
from typing import Any

from mlflow_image.checks.smoke.protocol import Telling, brief_text


def probe(url: str, telling: Telling) -> None:
    """Ask for something that reaches the database; tell apart what is no server to test.

    A name that does not resolve, a refused connection, a wrong certificate, missing
    credentials, a refused Host header and a web server that is no MLflow are fatal
    (nothing was written yet); a server error or no answer in time is a first row.
    """

    from mlflow.utils import credentials, rest_utils

    # MLflow's own way out, so that credentials and TLS are those of every later call.
    client: Any = rest_utils
    hosts: Any = credentials

    def ask() -> tuple[str, str]:
        try:
            answer = client.http_request(
                hosts.get_default_host_creds(url),
                "/api/2.0/mlflow/experiments/search",
                "GET",
                params={"max_results": 1},
                raise_on_status=False,
            )
        except Exception as error:
            if reason := connection_fault(error):
                raise telling.fatal(
                    f"no server answers at {url}: {reason}", "check the address and the network"
                ) from error
            raise
        if objection := objection_to(answer, url):
            raise telling.fatal(*objection)
        return "status 200", f"status {answer.status_code}{excerpt_of_error(answer)}"

    telling.check("the server answers from its database", ask)


def objection_to(answer: Any, url: str) -> tuple[str, str] | None:
    """What and remedy when this answer says that the URL or the credentials are wrong."""
    status, text = answer.status_code, answer.text[:4000]
    if answer.history and not answer.url.startswith(url):
        return (
            f"{url} redirects to {answer.url.split('/api/')[0]}",
            "give the address it redirects to: a redirected POST loses its content",
        )
    if status == 401:
        return (
            f"{url} asks for credentials (status 401)",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        )
    if status == 403 and "host header" in text.lower():
        return (
            f"{url} refuses this host name in its Host header (status 403)",
            "list the name, with `:*` or its port, in the server's allowed_hosts",
        )
    if status == 403:
        return f"{url} does not let these credentials in (status 403)", "use another user"
    if status < 500 and (status != 200 or not is_json(text)):
        return (
            f"{url} answers, but not as an MLflow server (status {status})",
            "check the address, its port and its path prefix",
        )
    return None


def connection_fault(error: BaseException) -> str:
    """The reason when no connection came about at all; empty for anything later."""
    seen: BaseException | None = error
    while seen is not None:
        for reason in (seen, getattr(seen.args[0], "reason", None) if seen.args else None):
            name = type(reason).__name__
            if name in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError"):
                return str(reason).rsplit(": ", 1)[-1]
            if name in ("SSLError", "SSLCertVerificationError", "ProxyError"):
                return brief_text(str(reason))
        seen = seen.__cause__ or seen.__context__
    return ""


def excerpt_of_error(answer: Any) -> str:
    return "" if answer.status_code == 200 else f": {brief_text(answer.text)}"


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        # Cut at 4000 characters, a long list of experiments is still one.
        return text.startswith('{"experiments"') or text.lstrip().startswith('{\n  "experiments"')
    return True
