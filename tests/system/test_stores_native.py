"""The launcher with PostgreSQL behind pgbouncer and an S3 store, all real, with TLS on loopback."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from mlflow_image.server import local
from mlflow_settings import settings
from mlflow_settings.settings import Settings
from tests.peers import ceph, postgresql, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.postgresql import Postgresql
from tests.peers.s3 import S3

pytestmark = pytest.mark.skipif(
    bool(postgresql.missing()), reason=f"missing: {postgresql.missing()}"
)

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
#: For a start; the first one also builds versitygw.
START_S = 120


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def database(authority: Authority) -> Iterator[Postgresql]:
    with postgresql.running(authority) as peer:
        yield peer


@pytest.fixture(scope="module")
def store(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if versitygw.program() is None:
        pytest.skip("versitygw cannot be built here: Go and its module proxy are needed")
    with versitygw.running(tmp_path_factory.mktemp("s3"), authority) as peer:
        yield peer


def text_of(database: Postgresql, store: S3, port: int | None = None) -> str:
    """Settings with both stores, as a user writes them."""
    pem = {
        name: textwrap.indent(peer.ca, "      ") for name, peer in (("pg", database), ("s3", store))
    }
    return f"""\
schema_version: 1
backend_store:
  postgresql:
    host: localhost
    port: {port or database.pooled_port}
    database: {postgresql.DATABASE}
    user: {postgresql.USER}
    password: {database.password}
    ca_certificate: |
{pem["pg"]}
artifact_store:
  s3:
    bucket: {s3.BUCKET}
    prefix: team
    endpoint_url: {store.url}
    region: us-east-1
    access_key_id: {s3.ACCESS_KEY}
    secret_access_key: {s3.SECRET_KEY}
    addressing: path
    allowed_locations: ["s3://{s3.BUCKET}/elsewhere"]
    ca_certificate: |
{pem["s3"]}
"""


@pytest.fixture(scope="module")
def chosen(database: Postgresql, store: S3) -> Settings:
    return settings.check(text_of(database, store), "settings.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(chosen: Settings, folder: Path) -> Iterator[str]:
    with local.ours(folder, 2, stores=chosen) as url:
        yield url


def launcher() -> psutil.Process:
    (found,) = local.launchers()
    return found


@pytest.mark.budget(900)
def test_a_server_with_both_stores_imports_early_and_rehearses(server: str, folder: Path) -> None:
    log = (folder / "server.log").read_text()
    assert "preload-postgresql: " in log
    assert "preload-s3: " in log
    assert "rehearsed the first calls" in log
    for bad in ("starting over", "differs", "threads run while", "not ready yet", "missing"):
        assert bad not in log, log


def test_an_artifact_comes_back_through_the_server_and_lies_in_the_bucket(
    server: str, store: S3
) -> None:
    data = b"0123456789" * 300_000
    put = requests.put(f"{server}{ARTIFACTS}/1/a/big.bin", data=data, timeout=60)
    assert put.status_code == 200, put.text
    assert requests.get(f"{server}{ARTIFACTS}/1/a/big.bin", timeout=60).content == data
    listed = requests.get(f"{server}{ARTIFACTS}", params={"path": "1/a"}, timeout=60).json()
    assert listed["files"] == [{"path": "big.bin", "is_dir": False, "file_size": len(data)}]
    deleted = requests.delete(f"{server}{ARTIFACTS}/1/a/big.bin", timeout=60)
    assert deleted.status_code == 200


def test_clients_are_not_sent_to_the_store(server: str) -> None:
    info = requests.get(f"{server}/api/3.0/mlflow/server-info", timeout=20).json()
    assert info["multipart_downloads_enabled"] is False
    assert info["multipart_uploads_enabled"] is False


def test_experiments_may_lie_in_the_servers_own_places_only(server: str) -> None:
    create = f"{server}/api/2.0/mlflow/experiments/create"

    def made(location: str) -> requests.Response:
        document = {"name": location, "artifact_location": location}
        return requests.post(create, json=document, timeout=20)

    assert made(f"s3://{s3.BUCKET}/team/own").status_code == 200
    assert made(f"s3://{s3.BUCKET}/elsewhere/x").status_code == 200
    for foreign in (
        f"s3://{s3.BUCKET}/other",
        f"s3://{s3.BUCKET}/teamwork",
        f"s3://{s3.BUCKET}/team/../other",
        "s3://other/team",
        "/var/lib/mlflow/artifacts/x",
        "file:///etc",
    ):
        assert made(foreign).status_code == 400, foreign


def test_secrets_are_in_no_environment_no_argument_and_no_log(
    server: str, folder: Path, database: Postgresql
) -> None:
    canaries = (database.password, s3.SECRET_KEY)
    for one in (launcher(), *launcher().children()):
        shown = " ".join([*one.cmdline(), *one.environ().values()])
        assert not [canary for canary in canaries if canary in shown]
    for name in ("server.log", "server.json"):
        assert not [canary for canary in canaries if canary in (folder / name).read_text()], name
    for name in ("pgpass", "aws-credentials"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def sockets(one: psutil.Process) -> set[str]:
    """The identities of a process's connected sockets."""
    links = (Path(f"/proc/{one.pid}/fd") / str(number) for number in range(200))
    found = {str(link.readlink()) for link in links if link.is_symlink()}
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.budget(90)
def test_replaced_workers_share_no_connection(server: str, folder: Path) -> None:
    failed: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                found = requests.post(
                    f"{server}/api/2.0/mlflow/experiments/search",
                    json={"max_results": 5},
                    timeout=30,
                )
                if found.status_code != 200:
                    failed.append(found.text)
            except requests.ConnectionError:
                pass  # the request was in the worker that was killed

    threads = [threading.Thread(target=load, daemon=True) for _ in range(6)]
    first = {one.pid for one in launcher().children()}
    for thread in threads:
        thread.start()
    try:
        for pid in first:
            psutil.Process(pid).kill()
            time.sleep(3)
        deadline = time.monotonic() + 60
        while len(launcher().children()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(3)
        workers = launcher().children()
        assert not first & {one.pid for one in workers}
        shared = sockets(launcher())
        apart = [sockets(one) - shared for one in workers]
        assert all(apart)
        assert not apart[0] & apart[1]
        # What all have in common: the port that they listen on.
        assert len(shared) <= 1 + len({"journal"}), shared
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def cases(database: Postgresql, store: S3, authority: Authority, folder: Path) -> dict[str, str]:
    """Settings with one thing wrong -> a part of what is said."""
    good = text_of(database, store)
    direct = text_of(database, store, database.port)
    expired = authority.issue("localhost", days=-10)
    assert expired
    return {
        good.replace("host: localhost", "host: no-such-host.invalid"): "does not resolve",
        good.replace(f"port: {database.pooled_port}", "port: 1"): "port 1 refuses",
        good.replace("host: localhost", "host: 127.0.0.1"): "certificate is for another name",
        good.replace(f"password: {database.password}", "password: wrong"): "user or the password",
        direct.replace(f"password: {database.password}", "password: wrong"): "user or the password",
        good.replace(f"database: {postgresql.DATABASE}", "database: none"): "no such database",
        direct.replace(f"database: {postgresql.DATABASE}", "database: none"): "no such database",
        # The second certificate is the store's CA, the same as the database's: replace the first.
        good.replace(
            textwrap.indent(database.ca, "      "),
            textwrap.indent(Authority(folder / "other").certificate.read_text(), "      "),
            1,
        ): "not signed by the CA",
        good.replace(f"port: {database.pooled_port}", f"port: {store.port}"): "database",
        good.replace(f"bucket: {s3.BUCKET}", "bucket: none"): "no such bucket",
        good.replace(s3.SECRET_KEY, "wrong"): "correct secret_access_key",
        good.replace(s3.ACCESS_KEY, "wrongkey"): "correct access_key_id",
        good.replace(store.url, "https://no-such-host.invalid"): "does not resolve",
        good.replace(store.url, "https://localhost:1"): "port 1 refuses",
        good.replace(store.url, store.url.replace("localhost", "127.0.0.1")): "another name",
        good.replace(store.url, f"https://localhost:{database.pooled_port}"): "artifact store",
    }


def looked(texts: list[str], folder: Path) -> list[str]:
    """What a launcher with each of these settings says of its stores."""
    environments = []
    for number, text in enumerate(texts):
        place = folder / str(number)
        place.mkdir()
        environments.append(local.configure(place, settings.check(text, "settings.yaml")))
    done = subprocess.run(
        [local.environment() / "bin" / "python", "-I", Path(__file__).parents[1] / "peers/look.py"],
        input=json.dumps(environments),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=local.own_environment(),
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout)
    return said


def test_the_rows_that_one_call_changes_go_to_the_database_in_one_message(
    server: str, database: Postgresql
) -> None:
    api = f"{server}/api/2.0/mlflow/runs"
    made = requests.post(f"{api}/create", json={"experiment_id": "0"}, timeout=60).json()
    run = made["run"]["info"]["run_id"]

    def log(step: int) -> None:
        metrics = [
            {"key": f"m{one}", "value": one + step, "timestamp": 1, "step": step}
            for one in range(20)
        ]
        call = {"run_id": run, "metrics": metrics}
        requests.post(f"{api}/log-batch", json=call, timeout=60).raise_for_status()

    log(1)
    with database.counting() as messages:
        log(2)
    changing = [one for one in messages if "UPDATE latest_metrics" in one]
    assert [one.count("UPDATE latest_metrics") for one in changing] == [20]
    got = requests.get(f"{api}/get", params={"run_id": run}, timeout=60).json()
    values = {one["key"]: one["value"] for one in got["run"]["data"]["metrics"]}
    assert values == {f"m{one}": one + 2 for one in range(20)}


@pytest.mark.full
@pytest.mark.budget(180)
@pytest.mark.skipif(bool(ceph.missing()), reason=f"missing: {ceph.missing()}")
@pytest.mark.verifies("Ceph's RADOS Gateway with TLS: used as it is, its refusals are told apart")
def test_ceph_takes_our_checksums_and_its_refusals_are_told_apart(
    database: Postgresql, authority: Authority, tmp_path: Path
) -> None:
    with ceph.running(tmp_path / "ceph", authority) as gateway:
        good = text_of(database, gateway)
        found = {
            good: "",
            good.replace("addressing: path", "addressing: path\n    checksums: when_supported"): (
                "write checksums: when_required"
            ),
            good.replace(f"bucket: {s3.BUCKET}", "bucket: none"): "no such bucket",
            good.replace(s3.SECRET_KEY, "wrong"): "correct secret_access_key",
            good.replace(s3.ACCESS_KEY, "wrongkey"): "correct access_key_id",
        }
        for expected, line in zip(found.values(), looked(list(found), tmp_path), strict=True):
            assert expected in line if expected else line == "", (expected, line)
        folder = tmp_path / "server"
        folder.mkdir()
        with local.ours(folder, 1, stores=settings.check(good, "x")) as url:
            data = b"0123456789" * 2_000_000
            assert requests.put(f"{url}{ARTIFACTS}/1/big", data=data, timeout=60).status_code == 200
            assert requests.get(f"{url}{ARTIFACTS}/1/big", timeout=60).content == data


@pytest.mark.budget(120)
@pytest.mark.verifies("what is wrong with PostgreSQL or S3 is told apart, with a remedy (natively)")
def test_what_is_wrong_with_a_store_is_told_apart(
    database: Postgresql, store: S3, authority: Authority, tmp_path: Path
) -> None:
    found = cases(database, store, authority, tmp_path)
    sound, *said = looked([text_of(database, store), *found], tmp_path)
    assert sound == ""
    for expected, line in zip(found.values(), said, strict=True):
        assert expected in line, (expected, line)
        assert re.match(r"(database|artifact store)\b", line)
        assert database.password not in line
        assert s3.SECRET_KEY not in line


@pytest.mark.budget(START_S)
def test_a_server_waits_for_its_database_and_starts_by_itself(
    database: Postgresql, store: S3, tmp_path: Path
) -> None:
    port = local.free_port()
    stores = settings.check(text_of(database, store, port), "settings.yaml")
    log = tmp_path / "server.log"

    def pooled_later() -> None:
        while not log.exists() or "refuses the connection" not in log.read_text():
            if ended.wait(0.2):
                return
        moved = Postgresql(**{**vars(database), "pooled_port": port})
        with postgresql.pgbouncer(moved):
            ended.wait(60)

    ended = threading.Event()
    late = threading.Thread(target=pooled_later, daemon=True)
    late.start()
    try:
        with local.ours(tmp_path, 1, stores=stores):
            deadline = time.monotonic() + 30
            while "ready: a call through" not in (text := log.read_text()):
                assert time.monotonic() < deadline, text
                time.sleep(0.2)
    finally:
        ended.set()
        late.join()
    assert f"warning: database: localhost port {port} refuses the connection" in text
    assert "the stores can be reached again" in text
    assert text.index("can be reached again") < text.index("ready: a call through")


@pytest.mark.budget(START_S)
def test_a_request_above_the_limit_gets_413(tmp_path: Path) -> None:
    limited = settings.check("schema_version: 1\nserver: {upload_limit: 1M}\n", "x")
    with local.ours(tmp_path, 1, stores=limited) as url:
        fits, over = b"x" * (1 << 20), b"x" * ((1 << 20) + 1)
        assert requests.put(f"{url}{ARTIFACTS}/fits", data=fits, timeout=20).status_code == 200
        for body in (over, iter([over[:700_000], over[700_000:]])):
            found = requests.put(f"{url}{ARTIFACTS}/over", data=body, timeout=20)
            assert found.status_code == 413
            assert "server.upload_limit" in found.json()["message"]
        assert requests.get(f"{url}{ARTIFACTS}/over", timeout=20).status_code == 404
