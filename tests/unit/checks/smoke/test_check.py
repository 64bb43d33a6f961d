"""The smoke test's order of phases, its answer to bad URLs, and what it deletes when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.process import Patience, Phase
from mlflow_image.checks.smoke.report import Row
from mlflow_image.errors import Failure, Refusal

URL = "http://server.example:8000"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "no URL"),
        ("server", "no scheme"),
        ("server:5000", "no scheme"),
        ("ftp://server", "its scheme is ftp"),
        ("sqlite:///mlflow.db", "its scheme is sqlite"),
        ("http://", "no host"),
        ("http://:5000", "no host"),
        ("http://server:port", "no URL"),
        ("http://server:99999", "no URL"),
        ("http://server:0", "port 0"),
        ("http://[::1", "no URL"),
        ("http://ser ver", "no URL"),
        ("http://server\n", "no URL"),
        ("http://server/?a=b", "query"),
        ("http://server/#/experiments/1", "fragment"),
    ],
)
def test_a_text_that_is_no_url_is_refused_with_the_reason(text: str, because: str) -> None:
    with pytest.raises(Refusal, match=because):
        check.checked_url(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://server:5000", "http://server:5000"),
        ("https://server/mlflow/", "https://server/mlflow"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
        ("HTTP://server", "HTTP://server"),
    ],
)
def test_a_url_loses_its_last_slash_and_nothing_else(text: str, url: str) -> None:
    assert check.checked_url(text) == url


def test_credentials_in_the_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(Refusal) as refusal:
        check.checked_url("https://me:secret@server")
    assert "secret" not in str(refusal.value)
    assert "MLFLOW_TRACKING_USERNAME" in refusal.value.remedy


class Client:
    """Stands in for the client process: notes the orders, answers as it was told to."""

    def __init__(self) -> None:
        self.orders: list[Mapping[str, Any]] = []
        self.bad: set[str] = set()
        self.raises: dict[str, BaseException] = {}

    @property
    def tasks(self) -> list[str]:
        return [order["task"] for order in self.orders]

    def run(
        self,
        order: Mapping[str, Any],
        folder: Path,
        patience: Patience,
        on_step: Callable[[str], None],
        into: Phase,
    ) -> None:
        self.orders.append(order)
        ok = order["phase"] not in self.bad
        into.rows.append(Row(order["phase"], "thing", "a", "a" if ok else "b", ok, 0.1))
        if error := self.raises.get(order["phase"]):
            raise error
        into.ended = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    it = Client()
    monkeypatch.setattr(check, "run_phase", it.run)
    return it


def test_it_writes_reads_reboots_reads_again_and_deletes(client: Client) -> None:
    report = check.check_server(URL, reboot=lambda: client.orders.append({"task": "reboot"}))
    assert client.tasks == ["write", "read", "reboot", "read", "delete"]
    assert report.ok
    assert report.left_behind == ()


def test_every_phase_is_about_the_same_contents_and_every_test_about_others(
    client: Client,
) -> None:
    check.check_server(URL)
    check.check_server(URL)
    tokens = [order["token"] for order in client.orders]
    assert tokens[0] == tokens[1] == tokens[2]
    assert tokens[3] == tokens[4] == tokens[5]
    assert tokens[0] != tokens[3]


def test_keep_deletes_nothing_and_names_what_stays(client: Client) -> None:
    report = check.check_server(URL, keep=True)
    assert client.tasks == ["write", "read"]
    assert client.orders[0]["token"] in report.left_behind[0]


def test_a_difference_while_writing_ends_in_deletion_without_reading(client: Client) -> None:
    client.bad = {check.WRITTEN}
    report = check.check_server(URL, reboot=lambda: pytest.fail("no reboot after a difference"))
    assert client.tasks == ["write", "delete"]
    assert report.first_difference == Row(check.WRITTEN, "thing", "a", "b", False, 0.1)


def test_what_cannot_be_deleted_is_a_difference_and_is_named(client: Client) -> None:
    client.bad = {check.DELETED}
    report = check.check_server(URL)
    assert not report.ok
    assert client.orders[0]["token"] in report.left_behind[-1]


def test_ctrl_c_while_reading_deletes_and_goes_on(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.raises = {check.READ: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        check.check_server(URL)
    assert client.tasks == ["write", "read", "delete"]


def test_a_second_ctrl_c_leaves_and_names_what_was_written(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("mlflow_image.progress.warn", said.append)
    client.raises = {check.READ: KeyboardInterrupt(), check.DELETED: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        check.check_server(URL)
    assert any("left behind" in text and client.orders[0]["token"] in text for text in said)


def test_a_failing_reboot_still_deletes(client: Client) -> None:
    def reboot() -> None:
        raise Failure("the guest panicked")

    with pytest.raises(Failure, match="panicked"):
        check.check_server(URL, reboot=reboot)
    assert client.tasks == ["write", "read", "delete"]


def test_what_is_no_server_is_a_failure_with_nothing_to_delete(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(order: Mapping[str, Any], *_: object) -> None:
        client.orders.append(order)
        raise Failure("no server answers")

    monkeypatch.setattr(check, "run_phase", nobody)
    with pytest.raises(Failure, match="no server answers"):
        check.check_server(URL)
    assert client.tasks == ["write"]
