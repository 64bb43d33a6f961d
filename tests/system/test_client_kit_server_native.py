"""check.py of the client kit against a real server: names, accounts, rights, versions."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from mlflow_image.server import local_proxy
from mlflow_image.server.client_kit import Kit
from mlflow_settings import settings
from tests.peers import client_kit
from tests.peers.client_kit import mlflow_python

pytestmark = [
    pytest.mark.full,
    pytest.mark.budget(90),
    pytest.mark.skipif(not local_proxy.program(), reason="missing: nginx"),
]

URI = "MLFLOW_TRACKING_URI"
USERS = """\
schema_version: 1
auth:
  basic:
    admin: {name: admin, password: canary-of-admin}
    users:
      - {name: ana, password: canary-of-ana}
      - {name: ben, password: canary-of-ben}
tls:
  self_signed: {names: [mlflow.example.com]}
"""


@dataclass(frozen=True)
class Server:
    """A server. inner: its address without TLS. kit: with everything that a client needs."""

    url: str
    inner: str
    kit: Kit

    def client(self, folder: Path, **values: str) -> Path:
        """The kit unpacked on a client's machine. values: changed in .env."""
        return client_kit.changed(self.kit, folder, values)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    chosen = settings.check(USERS, "settings.yaml")
    with local_proxy.running(tmp_path_factory.mktemp("users"), 1, chosen) as up:
        yield Server(up.url, up.inner, Kit(up.url, chosen, up.ca.read_text(), None, True))


def test_a_client_with_the_whole_kit_is_well(server: Server, tmp_path: Path) -> None:
    place = server.client(tmp_path)
    said = client_kit.check(place, mlflow_python())
    assert said.is_well, said.text
    assert len(said.lines) == 11
    assert "as ana" in said.lines["sign-in"]
    assert "through the server" in said.lines["artifacts"]


@pytest.mark.parametrize(
    ("values", "line", "cause", "remedy"),
    [
        ({"MLFLOW_TRACKING_PASSWORD": "wrong"}, "sign-in", "refuses the name ana", "users passwd"),
        ({"MLFLOW_TRACKING_USERNAME": "anna"}, "sign-in", "refuses the name anna", "users passwd"),
        ({"MLFLOW_TRACKING_PASSWORD": ""}, "kit", "_PASSWORD is not set in .env", "set it in .env"),
    ],
    ids=["the password is wrong", "the name is wrong", "there is no password"],
)
def test_check_says_that(
    values: dict[str, str], line: str, cause: str, remedy: str, server: Server, tmp_path: Path
) -> None:
    said = client_kit.check(server.client(tmp_path, **values), mlflow_python())
    assert line in said.faults, said.text
    what, _, todo = said.faults[line].partition(" do: ")
    assert cause in what
    assert remedy in todo
    assert "canary" not in said.text
    if line == "kit":
        assert "none is set" in said.faults["sign-in"]


def test_a_name_that_the_server_refuses_is_named(server: Server, tmp_path: Path) -> None:
    # A way to write 127.0.0.1 that is in no list of names.
    other = server.inner.replace("127.0.0.1", "127.1")
    said = client_kit.check(server.client(tmp_path, **{URI: other}), mlflow_python())
    assert "refuses the name 127.1:" in said.faults["server"], said.text
    assert "do: add 127.1:" in said.faults["server"]
    assert "server.allowed_hosts" in said.faults["server"]


def test_http_that_is_redirected_to_https_is_named(server: Server, tmp_path: Path) -> None:
    plain = server.url.replace("https:", "http:")
    said = client_kit.check(server.client(tmp_path, **{URI: plain}), mlflow_python())
    assert f"redirects to {server.url} do: write that address" in said.faults["server"], said.text


@pytest.mark.parametrize("right", ["READ", "DENY"])
def test_a_user_who_may_not_write_is_told_whom_to_ask(
    right: str, server: Server, tmp_path: Path
) -> None:
    def call(who: str, path: str, **values: str) -> requests.Response:
        place = f"{server.inner}/api/{path}"
        return requests.post(place, json=values, auth=(who, f"canary-of-{who}"), timeout=30)

    name = f"of-ana-{right}"
    created = call("ana", "2.0/mlflow/experiments/create", name=name).json()["experiment_id"]
    words = {"username": "ben", "resource_type": "experiment", "resource_id": created}
    given = call("admin", "3.0/mlflow/users/permissions/grant", **words, permission=right)
    assert given.status_code == 200, given.text
    values = {
        "MLFLOW_TRACKING_USERNAME": "ben",
        "MLFLOW_TRACKING_PASSWORD": "canary-of-ben",
        "MLFLOW_EXPERIMENT_NAME": name,
    }
    said = client_kit.check(server.client(tmp_path, **values), mlflow_python())
    assert list(said.faults) == ["write"], said.text
    assert f"ben may not write to experiment {name}" in said.faults["write"]
    assert "mlflow-admin users grant ben experiment ID EDIT" in said.faults["write"]


def test_the_second_user_of_a_server_logs_a_first_run_too(server: Server, tmp_path: Path) -> None:
    for user in ("ana", "ben"):
        values = {
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": f"canary-of-{user}",
        }
        place = server.client(tmp_path / user, **values)
        assert "its file says: alpha: 0.5" in client_kit.first_run(place, mlflow_python())
    assert client_kit.check(place, mlflow_python()).is_well


@pytest.mark.parametrize(
    ("version", "said_of_it"), [("1.30.1", "too old for"), ("4.0.0", "newer than the server's")]
)
def test_an_mlflow_that_does_not_fit_is_named(
    version: str, said_of_it: str, server: Server, tmp_path: Path
) -> None:
    about = tmp_path / "site" / f"mlflow-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlflow\nVersion: {version}\n")
    place = server.client(tmp_path)
    said = client_kit.check(place, mlflow_python(), PYTHONPATH=str(about.parent))
    assert f"MLflow {version} is {said_of_it}" in said.faults["MLflow"], said.text
    assert "pip install -r requirements.txt" in said.faults["MLflow"]


def test_who_has_sent_many_wrong_passwords_is_told_to_wait(server: Server, tmp_path: Path) -> None:
    def guess() -> None:
        while not ended.wait(0.05):
            requests.get(
                f"{server.inner}/api/2.0/mlflow/experiments/search",
                params={"max_results": 1},
                auth=("ana", "a guess"),
                timeout=30,
            )

    right = server.client(tmp_path / "right")
    assert client_kit.check(right).lines["sign-in"] == "ok sign-in as ana"
    ended = threading.Event()
    guesses = threading.Thread(target=guess)
    guesses.start()
    try:
        time.sleep(4)
        place = server.client(tmp_path, MLFLOW_TRACKING_PASSWORD="another guess")
        # One guess in two seconds is answered.
        found = [client_kit.check(place).faults["sign-in"] for _ in range(3)]
    finally:
        ended.set()
        guesses.join()
    assert any("too many wrong passwords" in one and "wait some seconds" in one for one in found)
    # What was right before goes on working.
    assert client_kit.check(right).lines["sign-in"] == "ok sign-in as ana"


def test_programs_that_read_env_themselves_need_no_shell(server: Server, tmp_path: Path) -> None:
    place = server.client(tmp_path)
    dotenv = mlflow_python().with_name("dotenv")
    done = subprocess.run(
        [dotenv, "run", "--", mlflow_python(), "first_run.py"],
        cwd=place,
        env=client_kit.environment({}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "its file says: alpha: 0.5" in done.stdout, done.stderr
