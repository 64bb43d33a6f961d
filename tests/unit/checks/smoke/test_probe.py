"""The first request to a server: which responses mean that it cannot be tested."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from mlflow_image.checks.smoke import probe

URL = "http://server:5000"
EXPERIMENTS = '{"experiments": [], "next_page_token": ""}'
LONG = '{"experiments": [{"name": "' + "x" * 10_000 + '"}]}'


@dataclass
class Answer:
    status_code: int
    text: str = EXPERIMENTS
    url: str = URL + "/api/2.0/mlflow/experiments/search"
    history: list[object] = field(default_factory=list)


@pytest.mark.parametrize(
    ("answer", "what", "remedy"),
    [
        (Answer(401, "who are you"), "requires credentials", "MLFLOW_TRACKING_USERNAME"),
        (Answer(403, "Invalid Host header - possible"), "rejects this host name", "allowed_hosts"),
        (Answer(403, "Permission denied"), "rejects these credentials", "another user"),
        (Answer(404, "<html>"), "is not an MLflow server (status 404)", "prefix"),
        (Answer(200, "<html>welcome"), "is not an MLflow server (status 200)", "prefix"),
        (
            Answer(200, url="https://server/api/2.0/mlflow/experiments/search", history=[1]),
            "redirects to https://server",
            "redirected POST",
        ),
    ],
)
def test_a_response_that_makes_testing_impossible_is_explained_with_a_remedy(
    answer: Answer, what: str, remedy: str
) -> None:
    objection = probe.objection_to(answer, URL)
    assert objection is not None
    assert what in objection[0]
    assert remedy in objection[1]


@pytest.mark.parametrize(
    "answer", [Answer(200), Answer(200, LONG), Answer(500, "broken"), Answer(503, "busy")]
)
def test_a_response_of_mlflow_and_a_server_error_can_be_tested(answer: Answer) -> None:
    assert probe.objection_to(answer, URL) is None


def fault_of(url: str) -> str:
    """What is reported when a request to this URL fails, wrapped as MLflow wraps it."""
    with pytest.raises(ValueError, match="wrapped") as error:
        try:
            requests.get(url, timeout=0.3)
        except requests.RequestException as cause:
            raise ValueError("wrapped") from cause
    return probe.connection_fault(error.value)


@pytest.fixture
def port() -> Iterator[int]:
    """A port on the loopback that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_refused_connection_is_reported_with_its_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "Connection refused" in fault_of(f"http://127.0.0.1:{unused.getsockname()[1]}")


def test_a_name_that_does_not_resolve_is_reported() -> None:
    assert "Failed to resolve 'server.invalid'" in fault_of("http://server.invalid")


def test_a_failed_tls_handshake_is_reported() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as plain:
        thread = threading.Thread(target=plain.handle_request, daemon=True)
        thread.start()
        assert "SSL" in fault_of(f"https://127.0.0.1:{plain.server_port}")
        thread.join()


def test_an_error_after_the_connection_is_not_a_connection_fault(port: int) -> None:
    assert fault_of(f"http://127.0.0.1:{port}") == ""
    assert probe.connection_fault(ValueError("bad JSON")) == ""
