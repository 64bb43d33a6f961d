"""download: temporary failures are retried, and the reason of a permanent one is reported."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
import requests
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NameResolutionError

from mlflow_image.errors import Failure
from mlflow_image.inputs.download import BODY_ATTEMPTS, RETRY, download, why
from tests.unit.conftest import Served

CONTENT = b"a file" * 1000
#: The same attempts without waiting between them.
AT_ONCE = RETRY.new(backoff_factor=0)


@pytest.fixture
def url(served: Served) -> str:
    served.files["/a.deb"] = CONTENT
    return f"{served.address}/a.deb"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_fails_twice_is_asked_again(
    url: str, served: Served, tmp_path: Path, status: int
) -> None:
    served.statuses["/a.deb"] = [status, status]
    download(url, tmp_path / "file", "a.deb", retry=AT_ONCE)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert served.asked == ["/a.deb"] * 3


def test_a_server_that_keeps_failing_is_reported_after_a_few_attempts(
    url: str, served: Served, tmp_path: Path
) -> None:
    served.statuses["/a.deb"] = [503] * 100
    with pytest.raises(Failure) as caught:
        download(url, tmp_path / "file", "a.deb", retry=AT_ONCE)
    assert (
        caught.value.what
        == f"a.deb could not be fetched from {url}: 127.0.0.1 answers with status 503"
    )
    assert len(served.asked) <= 5


@pytest.mark.budget(3)
def test_the_wait_that_the_server_asks_for_is_kept(
    url: str, served: Served, tmp_path: Path
) -> None:
    served.statuses["/a.deb"] = [429]
    served.headers["Retry-After"] = "1"
    started = time.monotonic()
    download(url, tmp_path / "file", "a.deb", retry=AT_ONCE)
    assert time.monotonic() - started >= 1


def test_a_missing_file_is_not_asked_for_again(served: Served, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"a\.deb .*: 127\.0\.0\.1 answers with status 404"):
        download(f"{served.address}/gone", tmp_path / "file", "a.deb")
    assert served.asked == ["/gone"]


def test_a_download_that_was_cut_short_once_starts_again(
    url: str, served: Served, tmp_path: Path
) -> None:
    served.cut_short_once.add("/a.deb")
    download(url, tmp_path / "file", "a.deb")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert served.asked == ["/a.deb"] * 2


def test_a_download_that_is_always_cut_short_is_reported(
    url: str, served: Served, tmp_path: Path
) -> None:
    served.cut_short.add("/a.deb")
    with pytest.raises(Failure, match="closed the connection before the end of the file"):
        download(url, tmp_path / "file", "a.deb")
    assert served.asked == ["/a.deb"] * BODY_ATTEMPTS


@pytest.mark.budget(3)
def test_an_unreachable_server_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        Failure, match=r"127\.0\.0\.1 cannot be reached: Connection refused"
    ) as caught:
        download("http://127.0.0.1:1/a.deb", tmp_path / "file", "a.deb", retry=AT_ONCE)
    assert "network" in caught.value.remedy
    assert "--offline" in caught.value.remedy


def test_progress_is_reported_in_bytes(url: str, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    download(url, tmp_path / "file", "a.deb", lambda *now: reported.append(now))
    assert reported[-1] == (len(CONTENT), len(CONTENT))


def reason_of(url: str, proxy: str = "", timeout_s: float = 5.0) -> str:
    with requests.Session() as http, pytest.raises(requests.RequestException) as caught:
        http.get(url, timeout=timeout_s, proxies={"http": proxy}).raise_for_status()
    return why(caught.value)


def test_a_server_that_does_not_answer_in_time_is_reported_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert reason_of(url, timeout_s=0.1) == "does not answer in time"


def test_a_server_that_hangs_up_is_reported_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert reason_of(url) == "closed the connection without an answer"


def test_a_proxy_that_cannot_be_reached_is_reported_as_such() -> None:
    reason = reason_of("http://archive.example/", proxy="http://127.0.0.1:1")
    assert reason == "cannot be reached through the proxy: Connection refused"


def test_a_name_without_an_address_is_reported_as_such() -> None:
    unresolved = NameResolutionError("h.example", HTTPConnection("h.example"), socket.gaierror())
    pool = HTTPConnectionPool("h.example")
    error = requests.ConnectionError(MaxRetryError(pool, "/", unresolved))
    assert why(error) == "cannot be resolved by DNS"
