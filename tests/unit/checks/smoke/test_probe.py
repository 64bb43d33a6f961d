"""The first question to a server: which answers mean that there is nothing to test."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mlflow_image.checks.smoke import probe

URL = "http://server:5000"
EXPERIMENTS = '{"experiments": [], "next_page_token": ""}'


@dataclass
class Answer:
    status_code: int
    text: str = EXPERIMENTS
    url: str = URL + "/api/2.0/mlflow/experiments/search"
    history: list[object] = field(default_factory=list)


@pytest.mark.parametrize(
    ("answer", "what", "remedy"),
    [
        (Answer(401, "who are you"), "asks for credentials", "MLFLOW_TRACKING_USERNAME"),
        (Answer(403, "Invalid Host header - possible"), "refuses this host name", "allowed_hosts"),
        (Answer(403, "Permission denied"), "does not let these credentials in", "another user"),
        (Answer(404, "<html>"), "not as an MLflow server (status 404)", "prefix"),
        (Answer(200, "<html>welcome"), "not as an MLflow server (status 200)", "prefix"),
        (
            Answer(200, url="https://server/api/2.0/mlflow/experiments/search", history=[1]),
            "redirects to https://server",
            "redirected POST",
        ),
    ],
)
def test_an_answer_that_is_no_servers_is_told_with_its_remedy(
    answer: Answer, what: str, remedy: str
) -> None:
    objection = probe.objection_to(answer, URL)
    assert objection is not None
    assert what in objection[0]
    assert remedy in objection[1]


@pytest.mark.parametrize("answer", [Answer(200), Answer(500, "broken"), Answer(503, "busy")])
def test_a_servers_answer_and_a_servers_error_are_its_own(answer: Answer) -> None:
    assert probe.objection_to(answer, URL) is None


def test_a_refused_connection_is_told_by_its_own_reason() -> None:
    import requests

    # Port 9 on the loopback: discard, which nobody runs.
    with pytest.raises(requests.ConnectionError) as error:
        requests.get("http://127.0.0.1:9", timeout=2)
    assert "Connection refused" in probe.connection_fault(error.value)


def test_a_late_fault_is_no_connection_fault() -> None:
    assert probe.connection_fault(ValueError("bad JSON")) == ""
