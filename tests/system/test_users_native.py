"""A server with users, natively: without a password nobody gets in; changes count at once."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from mlflow_image.server import local
from mlflow_settings import settings, users
from mlflow_settings.blocks import auth

PROGRAM = Path(__file__).resolve().parents[1] / "peers" / "routes.py"
ADMIN = ("admin", "canary-of-the-administrator")
ANA = ("ana", "canary-of-ana")
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
#: Everybody may ask these: whether the server lives, and what kind of server it is.
OPEN = {"/health", "/static-files/1", "/build/1", "/api/3.0/mlflow/server-info"}
OPEN |= {"/ajax-api/3.0/mlflow/server-info"}
TEXT = f"""\
schema_version: 1
auth:
  basic:
    admin: {{name: admin, password: {ADMIN[1]}}}
    users:
      - {{name: {ANA[0]}, password: {ANA[1]}}}
      - {{name: ben, password: canary-of-ben}}
      - {{name: root, password: canary-of-root, admin: true}}
"""


@dataclass
class Server:
    """One server with users. folder: its files."""

    url: str
    folder: Path

    def get(self, who: tuple[str, str] | None, path: str = EXPERIMENT) -> requests.Response:
        """A call on a connection of its own: any worker may answer."""
        return requests.get(self.url + path, auth=who, timeout=30)

    def admin(self, *words: str, typed: str = "", monkeypatch: pytest.MonkeyPatch) -> str:
        """What `mlflow-admin users` prints."""
        monkeypatch.setattr(auth, "OWN_ACCESS", self.folder / "own-access")
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            users.main(words, self.url)
        return printed.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("users")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with local.ours(folder, 2, stores=settings.check(TEXT, "x")) as url:
        yield Server(url, folder)


@pytest.mark.budget(120)
def test_the_launcher_starts_it_as_fast_as_the_other(server: Server) -> None:
    log = (server.folder / "server.log").read_text()
    assert "preload-basic-auth: " in log
    assert "rehearsed the first calls" in log
    assert "created the user ana" in log
    for unwanted in ("starting over", "this MLflow differs", "not ready yet", "threads run while"):
        assert unwanted not in log


def test_each_user_gets_in_with_the_right_password_only(server: Server) -> None:
    tried = {
        None: 401,
        ADMIN: 200,
        ANA: 200,
        ("root", "canary-of-root"): 200,
        (ANA[0], ADMIN[1]): 401,
        ("nobody", ANA[1]): 401,
        (auth.OWN_NAME, ""): 401,
        (auth.OWN_NAME, ANA[1]): 401,
    }
    assert {who: server.get(who).status_code for who in tried} == tried


@pytest.mark.budget(120)
def test_no_route_of_mlflow_answers_anybody_without_a_password(
    server: Server, tmp_path: Path
) -> None:
    done = subprocess.run(
        [local.environment() / "bin" / "python", PROGRAM, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    routes = json.loads(done.stdout)
    assert len(routes["flask"]) > 1000
    assert len(routes["fastapi"]) > 70
    extra = [
        ("GET", path) for path in ("//api/2.0/mlflow/experiments/search", "/docs", "/x/health")
    ]
    tried = {(method, path) for method, path in (*routes["flask"], *routes["fastapi"], *extra)}
    assert {path for _, path in tried} >= {*OPEN, "/metrics", "/graphql", "/v1/traces", "/version"}

    def status(one: tuple[str, str]) -> int:
        return requests.request(one[0], server.url + one[1], timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(tried, pool.map(status, tried), strict=True))
    answered = {one: code for one, code in found.items() if code != 401 and one[1] not in OPEN}
    assert answered == {}
    # Those that are open tell nothing about runs and users.
    info = server.get(None, "/api/3.0/mlflow/server-info").json()
    assert not set(map(str, info)) & {"experiments", "users", "store_uri"}


def test_an_ordinary_user_manages_nobody(server: Server) -> None:
    create = f"{server.url}/api/2.0/mlflow/users/create"
    account = {"username": "mallory", "password": "canary-of-mallory"}
    assert requests.post(create, json=account, auth=ANA, timeout=30).status_code == 403
    assert server.get(("mallory", account["password"])).status_code == 401


def test_a_changed_password_is_in_force_at_once_in_every_worker(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ben = ("ben", "canary-of-ben")
    for _ in range(20):  # every worker has seen it
        assert server.get(ben).status_code == 200
    said = server.admin("passwd", "ben", typed="canary-of-ben-2\n", monkeypatch=monkeypatch)
    assert said == "changed the password of ben\n"
    assert {server.get(ben).status_code for _ in range(4)} == {401}
    assert server.get(("ben", "canary-of-ben-2")).status_code == 200


def test_an_operator_who_has_locked_himself_out_gets_in_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = requests.patch(
        f"{server.url}/api/2.0/mlflow/users/update-password",
        json={"username": "admin", "password": "canary-forgotten", "current_password": ADMIN[1]},
        auth=ADMIN,
        timeout=30,
    )
    assert changed.status_code == 200
    assert server.get(ADMIN).status_code == 401
    said = server.admin("passwd", "admin", typed=f"{ADMIN[1]}\n", monkeypatch=monkeypatch)
    assert said == "changed the password of admin\n"
    assert server.get(ADMIN).status_code == 200


def test_the_operator_lists_makes_grants_and_deletes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def admin(*words: str, typed: str = "") -> str:
        return server.admin(*words, typed=typed, monkeypatch=monkeypatch)

    made = admin("add", "eve", "--made").splitlines()
    assert made[1] == "created the user eve"
    eve = ("eve", made[0])
    assert server.get(eve).status_code == 200
    rename = {"experiment_id": "0", "new_name": "Default 2"}
    update = f"{server.url}/api/2.0/mlflow/experiments/update"
    assert requests.post(update, json=rename, auth=eve, timeout=30).status_code == 403
    assert admin("grant", "eve", "experiment", "0", "EDIT") == "eve: EDIT for experiment 0\n"
    assert requests.post(update, json=rename, auth=eve, timeout=30).status_code == 200
    listed = admin("list").splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["admin", "admin"],
        ["ana", "user"],
        ["ben", "user"],
        ["eve", "user"],
        ["mlflow-image", "admin"],
        ["root", "admin"],
    ]
    assert admin("delete", "eve") == "deleted eve\n"
    assert {server.get(eve).status_code for _ in range(4)} == {401}
    assert "shorter than 12" in admin("add", "eve", typed="short\n")
    assert "eve" in admin("passwd", "eve", typed="a long password\n")


def test_a_permission_is_in_force_at_once_in_every_worker(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(who: tuple[str, str], path: str, **values: object) -> requests.Response:
        url = f"{server.url}/api/2.0/mlflow/{path}"
        return requests.post(url, json=values, auth=who, timeout=30)  # any worker may answer

    run = post(ADMIN, "runs/create", experiment_id="0").json()["run"]["info"]["run_id"]

    def statuses(calls: int = 12) -> set[int]:
        values = {"run_id": run, "metrics": [{"key": "a", "value": 1, "timestamp": 1, "step": 0}]}
        return {post(ANA, "runs/log-batch", **values).status_code for _ in range(calls)}

    for permission, expected in (("READ", 403), ("EDIT", 200), ("READ", 403), ("MANAGE", 200)):
        server.admin("grant", "ana", "experiment", "0", permission, monkeypatch=monkeypatch)
        assert statuses() == {expected}, permission
    assert post(ANA, "runs/log-batch", run_id="0" * 32, metrics=[]).status_code == 403


def test_who_is_no_administrator_any_more_is_refused_at_once_in_every_worker(
    server: Server,
) -> None:
    root = ("root", "canary-of-root")
    users = "/api/2.0/mlflow/users/get?username=ana"
    assert {server.get(root, users).status_code for _ in range(12)} == {200}
    changed = requests.patch(
        f"{server.url}/api/2.0/mlflow/users/update-admin",
        json={"username": "root", "is_admin": False},
        auth=ADMIN,
        timeout=30,
    )
    assert changed.status_code == 200
    assert {server.get(root, users).status_code for _ in range(12)} == {403}


@pytest.mark.budget(60)
def test_a_hundred_guesses_a_second_do_not_slow_the_right_password_down(server: Server) -> None:
    def calls(seconds: float) -> list[float]:
        took = []
        end_s = time.monotonic() + seconds
        with requests.Session() as session:
            session.auth = ANA
            while time.monotonic() < end_s:
                began_s = time.monotonic()
                assert session.get(server.url + EXPERIMENT, timeout=30).status_code == 200
                took.append(time.monotonic() - began_s)
                time.sleep(0.02)
        return took

    stop = threading.Event()
    statuses: list[int] = []

    def guess() -> None:
        with requests.Session() as session:
            for number in itertools.count():
                if stop.wait(0.04):
                    return
                session.auth = ("ana", f"canary-guess-{number}")
                statuses.append(session.get(server.url + EXPERIMENT, timeout=30).status_code)

    alone = calls(3)
    guessers = [threading.Thread(target=guess, daemon=True) for _ in range(10)]
    began_s = time.monotonic()
    for one in guessers:
        one.start()
    time.sleep(1)
    attacked = calls(4)
    stop.set()
    for one in guessers:
        one.join()
    rate = len(statuses) / (time.monotonic() - began_s)
    ratio = statistics.median(attacked) / statistics.median(alone)
    print(f"{rate:.0f} guesses/s, the right password took {ratio:.2f} x as long")
    assert rate > 20  # on a busy machine
    assert set(statuses) == {401, 429}
    assert ratio < 2
    log = (server.folder / "server.log").read_text()
    assert "wrong passwords from 127.0.0.1" in log


@pytest.mark.budget(60)
def test_after_a_restart_a_deleted_user_stays_deleted_and_a_password_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.admin("delete", "root", monkeypatch=monkeypatch)
    requests.delete(
        f"{server.url}/api/2.0/mlflow/users/delete",
        json={"username": "root"},
        auth=ADMIN,
        timeout=9,
    )
    # A second server on the same databases starts as the first one would start again.
    chosen = settings.check(f"{TEXT}server: {{prometheus: true}}\n", "x")
    port = local.free_port()
    own = replace(chosen.server, host="127.0.0.1", port=port, workers=1)
    again = server.folder.with_name(f"{server.folder.name}-again")
    again.mkdir()
    for name in ("mlflow.db", "accounts.db"):
        os.link(server.folder / name, again / name)
    local.configure(again, replace(chosen, server=own))
    words = [
        str(local.environment() / "bin" / "python"),
        "-I",
        str(local.LIBRARY / "mlflow-launch"),
    ]
    variables = {
        "MLFLOW_IMAGE_RUN": str(again),
        "MLFLOW_IMAGE_PRELOAD": str(local.launch_files() / "preload.txt"),
        "RUNTIME_DIRECTORY": str(again),
    }
    for file in again.glob("*.ini"):
        file.write_text(file.read_text().replace(str(again), str(server.folder)))
    with local.serving(words, again, variables, port) as url:
        second = Server(url, again)
        assert second.get(("root", "canary-of-root")).status_code == 401
        assert second.get(("ben", "canary-of-ben")).status_code == 401
        assert second.get(("ben", "canary-of-ben-2")).status_code == 200
        assert [second.get(who, "/metrics").status_code for who in (None, ANA, ADMIN)] == [
            *(401, 403, 200)
        ]


def test_no_password_is_in_a_log_an_argument_or_an_environment(server: Server) -> None:
    assert "canary" not in (server.folder / "server.log").read_text()
    launcher = local.launchers()[0]
    for process in (launcher, *launcher.children(recursive=True)):
        raw = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"canary" not in raw + " ".join(process.cmdline()).encode()
        assert b"SECRET_KEY" not in raw
    for name in ("own-access", "auth.ini", "auth-users.json", "accounts-changed"):
        assert (server.folder / name).stat().st_mode & 0o077 == 0, name
