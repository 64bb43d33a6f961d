"""The smoke test: the order of its phases, which URLs it refuses, and when it deletes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlflow_image.checks.smoke import check
from mlflow_image.checks.smoke.check import Options
from mlflow_image.errors import Failure, Refusal

from .conftest import StandIn

URL = "http://server.example:8000"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "not a URL"),
        ("server", "no scheme"),
        ("server:5000", "no scheme"),
        ("ftp://server", "its scheme is ftp"),
        ("sqlite:///mlflow.db", "its scheme is sqlite"),
        ("http://", "no host"),
        ("http://:5000", "no host"),
        ("http://server:port", "not a URL"),
        ("http://server:99999", "not a URL"),
        ("http://server:0", "its port is 0"),
        ("http://[::1", "not a URL"),
        ("http://ser ver", "not a URL"),
        ("http://server\n", "not a URL"),
        ("http://server/?a=b", "query"),
        ("http://server/#/experiments/1", "fragment"),
    ],
)
def test_an_invalid_url_is_refused_with_the_reason(text: str, because: str) -> None:
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
def test_a_url_loses_only_its_trailing_slash(text: str, url: str) -> None:
    assert check.checked_url(text) == url


def test_credentials_in_the_url_are_refused_and_not_printed() -> None:
    with pytest.raises(Refusal) as refusal:
        check.checked_url("https://me:secret@server")
    assert "secret" not in str(refusal.value)
    assert "MLFLOW_TRACKING_USERNAME" in refusal.value.remedy


def interrupt(*phases: str) -> Callable[[str], None]:
    """An on_step that presses Ctrl-C in these phases, after their first row."""

    def on_step(step: str) -> None:
        if step in [f"{phase}: another thing" for phase in phases]:
            raise KeyboardInterrupt

    return on_step


def test_it_writes_reads_reboots_reads_again_and_deletes(client: StandIn) -> None:
    before_the_reboot: list[str] = []
    options = Options(reboot=lambda: before_the_reboot.extend(client.tasks))
    report = check.check_server(URL, options)
    assert before_the_reboot == ["write", "read"]
    assert client.tasks == ["write", "read", "read", "delete"]
    assert report.ok
    assert report.left_behind == ()


def test_all_phases_of_a_test_have_the_same_contents_and_every_test_has_others(
    client: StandIn,
) -> None:
    check.check_server(URL)
    check.check_server(URL)
    tokens = [job.token for job in client.jobs]
    assert tokens[0] == tokens[1] == tokens[2]
    assert tokens[3] == tokens[4] == tokens[5]
    assert tokens[0] != tokens[3]


def test_keep_deletes_nothing_and_names_what_stays(client: StandIn) -> None:
    report = check.check_server(URL, Options(keep=True))
    assert client.tasks == ["write", "read"]
    assert client.jobs[0].token in report.left_behind[0]


def test_after_a_difference_while_writing_nothing_is_read_and_everything_is_deleted(
    client: StandIn,
) -> None:
    client.report(check.WRITTEN, found="b")
    options = Options(reboot=lambda: pytest.fail("no reboot after a difference"))
    report = check.check_server(URL, options)
    assert client.tasks == ["write", "delete"]
    assert report.difference_text() == "written: thing: expected a, found b"


def test_what_cannot_be_deleted_is_a_difference_and_is_named(client: StandIn) -> None:
    client.report(check.DELETED, found="b")
    report = check.check_server(URL)
    assert not report.ok
    assert client.jobs[0].token in report.left_behind[-1]


def test_ctrl_c_while_reading_deletes_what_was_written(client: StandIn) -> None:
    with pytest.raises(KeyboardInterrupt):
        check.check_server(URL, on_step=interrupt(check.READ))
    assert client.tasks == ["write", "read", "delete"]


def test_a_second_ctrl_c_leaves_what_was_written_and_names_it(
    client: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        check.check_server(URL, on_step=interrupt(check.READ, check.DELETED))
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"left on {URL}" in last
    assert client.jobs[0].token in last


def test_after_a_failed_reboot_everything_is_deleted(client: StandIn) -> None:
    def reboot() -> None:
        raise Failure("the guest panicked")

    with pytest.raises(Failure, match="panicked"):
        check.check_server(URL, Options(reboot=reboot))
    assert client.tasks == ["write", "read", "delete"]


def test_where_no_server_answers_there_is_nothing_to_delete(client: StandIn) -> None:
    client.report(check.WRITTEN, fatal="no server answers")
    with pytest.raises(Failure, match="no server answers"):
        check.check_server(URL)
    assert client.tasks == ["write"]
