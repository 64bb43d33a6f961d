"""Each seed's server boots from its own user-data, with real peers and the seeds' own clients.

The settings are what `invoke new --seed` writes, with the values in capitals filled in. Of 000 and
004, the commands are those of the pages in docs/tutorials/.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from mlflow_image.checks.record import README_TABLES
from mlflow_image.server.local import environment, own_environment
from tests.peers import ceph, guest, minio, notebook, postgresql, s3, versitygw
from tests.peers.authority import Authority
from tests.peers.clients import MANY, QUIET
from tests.peers.postgresql import Postgresql
from tests.peers.s3 import S3
from tests.peers.tutorials import Tutorial

from .conftest import CHECKOUT, Tasks, url_of

pytestmark = pytest.mark.full

API = "/api/2.0/mlflow"
MEBIBYTE = 1 << 20
BIG_MIB = 500
#: Clients with the image's own MLflow; each prints one line.
BIG = """
import hashlib, pathlib, sys, tempfile, time
import mlflow
began = time.monotonic()
with mlflow.start_run() as run:
    mlflow.log_artifact(sys.argv[1])
up = time.monotonic()
with tempfile.TemporaryDirectory() as folder:
    uri = f"{run.info.artifact_uri}/big.bin"
    back = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
    down = time.monotonic()
    found = hashlib.sha256(pathlib.Path(back).read_bytes()).hexdigest()
print(run.info.run_id, found, f"{up - began:.0f}", f"{down - up:.0f}")
"""
OWN_PLACE = """
import sys
import mlflow
mlflow.set_experiment(experiment_id=mlflow.create_experiment("Homework", sys.argv[1]))
with mlflow.start_run() as run:
    mlflow.log_text("of an experiment with its own place", "note.txt")
print(run.info.run_id, mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"))
"""


@dataclass(frozen=True)
class Seed:
    """The names in a seed's text. pooled: its database is behind pgbouncer; None: SQLite."""

    number: str
    bucket: str
    store: str
    database: str = ""
    pooled: bool | None = None

    @property
    def missing(self) -> str:
        """What this host lacks for the seed's peers."""
        if self.database and postgresql.missing():
            return postgresql.missing()
        if self.store == "Ceph":
            return ceph.missing()
        peer = minio if self.store == "MinIO" else versitygw
        return "" if peer.program() else f"{self.store}: Go and its module proxy"


SEEDS = (
    Seed("000", "mlflow-bucket", "Ceph", "db1", pooled=True),
    Seed("001", "mlflowbucket", "versitygw", "db1", pooled=True),
    Seed("003", "team-bucket", "versitygw", "mlflow", pooled=False),
    Seed("004", "mlflows3", "MinIO"),
)


#: Those whose page has the commands of this server alone.
PAGES = ("000", "004")


@dataclass(frozen=True)
class Server:
    seed: Seed
    url: str
    store: S3
    database: Postgresql | None
    folder: Path
    tasks: Tasks
    page: Tutorial | None

    @property
    def vm(self) -> str:
        return f"seed-{self.seed.number}"

    def client(self, *words: str, timeout_s: float = 900) -> str:
        """Run Python with the image's packages, and the variables that `client-env` prints."""
        ca = self.folder / "client-ca.pem"
        shown = self.tasks(
            *("client-env", "--name", self.vm, "--format", "dotenv", "--with-secrets"),
            *("--ca", str(ca)),
        )
        assert shown.returncode == 0, shown.stderr
        lines = (line for line in shown.stdout.splitlines() if not line.startswith("#"))
        given = dict(line.partition("=")[::2] for line in lines)
        # The same store: this host does not know the names that the VM has in /etc/hosts.
        given = {name: value.replace(s3.HOST, "localhost") for name, value in given.items()}
        done = subprocess.run(
            [environment() / "bin" / "python", *words],
            env={**own_environment(), **QUIET, **given, "HOME": str(self.folder)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str, /, **query: str) -> Any:
        answer = requests.get(f"{self.url}{path}", params=query, timeout=120)
        assert answer.ok, answer.text
        return answer

    def in_guest(self, line: str) -> str:
        return self.tasks.in_guest(self.vm, line)


def _param(seed: Seed) -> Any:
    """The seed with its row in the README's table of tutorials, which all of its tests decide."""
    (row,) = (name for name in README_TABLES["tutorials"] if name.startswith(seed.number))
    return pytest.param(seed, id=f"seed-{seed.number}", marks=pytest.mark.verifies(row))


@pytest.fixture(scope="module", params=map(_param, SEEDS))
def server(
    request: pytest.FixtureRequest,
    tasks: Tasks,
    image: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    seed: Seed = request.param
    if seed.missing:
        pytest.skip(f"missing: {seed.missing}")
    base = tmp_path_factory.mktemp(f"seed-{seed.number}")
    authority = Authority(base / "ca")
    with ExitStack() as stack:
        store = stack.enter_context(_store(seed, base / "store", authority))
        database = None
        if seed.database:
            database = stack.enter_context(postgresql.running(authority, database=seed.database))
        settings, file = base / "settings.yaml", base / "user-data"
        page = Tutorial(seed.number) if seed.number in PAGES else None
        _write_settings(tasks, seed, settings, store, database, page)
        made = {"settings.yaml": str(settings), "user-data": str(file)}
        words = ["user-data", "--settings", str(settings), "--out", str(file)]
        done = tasks(*(page.words("user-data", made) if page else words))
        assert done.returncode == 0, done.stdout + done.stderr
        file.write_bytes(file.read_bytes() + guest.NAMES)
        words = ["up", "--user-data", str(file)]
        words = page.words("up", {"user-data": str(file)}) if page else words
        name = f"seed-{seed.number}"
        stack.callback(tasks, "down", "--name", name)
        up = tasks(*words, "--name", name, "--memory", "1536")
        yield Server(seed, url_of(up), store, database, base, tasks, page)


def _store(seed: Seed, folder: Path, authority: Authority) -> Any:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if seed.store == "Ceph":
        return ceph.running(folder, authority, seed.bucket)
    if seed.store == "MinIO":
        return minio.running(folder, seed.bucket)
    return versitygw.running(folder, authority, bucket=seed.bucket)


def _write_settings(
    tasks: Tasks,
    seed: Seed,
    file: Path,
    store: S3,
    database: Postgresql | None,
    page: Tutorial | None,
) -> None:
    """What `invoke new --seed` and a text editor make; the peers' names come from bootcmd."""
    ca = file.parent / "ca" / "ca.pem"
    words = ["new", "--seed", seed.number, "--out", str(file)]
    words += ["--database-ca", str(ca)] if database else []
    if page:
        given = {"settings.yaml": str(file)}
        given |= {"database-ca.pem": str(ca)} if database else {}
        words = page.words("new", given)
    words += ["--store-ca", str(ca)] if store.ca else []
    # Seed 003 has no endpoint, because it uses AWS; the peer needs one.
    place = f"{store.scheme}://{s3.HOST if store.ca else guest.HOST}:{store.port}"
    words += ["--endpoint", place] if seed.number == "003" else []
    done = tasks(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    values = {
        "STORE_ENDPOINT": place,
        "STORE_REGION": "us-east-1",
        "BUCKET_NAME": seed.bucket,
        "SECRET_ACCESS_KEY": s3.SECRET_KEY,
        '"ACCESS_KEY_ID"': f'"{s3.ACCESS_KEY}"',
    }
    if database:
        port = database.pooled_port if seed.pooled else database.port
        values |= {
            "DATABASE_HOST": postgresql.HOST,
            "DATABASE_USER": postgresql.USER,
            "DATABASE_PASSWORD": database.password,
            "port: 6432" if seed.pooled else "port: 5432": f"port: {port}",
        }
    text = file.read_text()
    for before, after in values.items():
        text = text.replace(before, after)
    file.write_text(text)


@pytest.mark.budget(900)
def test_the_server_keeps_its_data_in_the_seeds_stores(server: Server) -> None:
    assert server.get("/version").status_code == 200
    if server.database:
        assert server.database.sql("SELECT count(*) FROM experiments") == "1"
    made = server.get(f"{API}/experiments/get", experiment_id="0").json()["experiment"]
    place = "mlflow-artifacts:/" if server.seed.number == "004" else f"s3://{server.seed.bucket}"
    assert made["artifact_location"].startswith(place)


@pytest.mark.budget(120)
def test_the_seeds_clients_log_and_read_back(server: Server) -> None:
    assert "its file says: alpha: 0.5" in server.client(str(CHECKOUT / "examples/first_run.py"))
    shown = server.client(str(CHECKOUT / "examples/wine_quality.py"))
    assert "version 1 of ElasticnetWineModel predicts as" in shown


@pytest.mark.budget(300)
def test_the_page_s_commands_serve_the_notebook(server: Server) -> None:
    if not server.page:
        return
    address = f"http://SERVER_ADDRESS:{8000 if server.seed.number == '000' else 5000}"
    given = {"settings.yaml": str(server.folder / "settings.yaml"), address: server.url}
    given |= {"mlflow-ca.pem": str(server.folder / "client-ca.pem")} if server.store.ca else {}
    shown = server.tasks(*server.page.words("client-env", given))
    assert shown.returncode == 0, shown.stderr
    folder = server.folder / "notebook"
    # The same store: this host does not know the names that the VM has in /etc/hosts.
    cell = shown.stdout.replace(s3.HOST, "localhost")
    done = notebook.execute(folder, cell, server.page.words("jupyter"))
    assert done.returncode == 0, done.stderr
    assert "is the champion" in notebook.outputs(folder)
    assert server.page.left == [], "each command of the page has run"


@pytest.mark.budget(60)
def test_the_ui_shows_an_artifact(server: Server) -> None:
    (run,) = requests.post(
        f"{server.url}{API}/runs/search",
        json={"experiment_ids": _experiment(server, "first_experiment")},
        timeout=60,
    ).json()["runs"]
    number = run["info"]["run_id"]
    listed = server.get(f"{API}/artifacts/list", run_id=number).json()["files"]
    assert [(one["path"], one["file_size"]) for one in listed] == [("config.yaml", 11)]
    shown = server.get("/get-artifact", path="config.yaml", run_uuid=number)
    assert shown.text == "alpha: 0.5\n"


def _experiment(server: Server, name: str) -> list[str]:
    found = server.get(f"{API}/experiments/get-by-name", experiment_name=name).json()
    return [found["experiment"]["experiment_id"]]


@pytest.mark.budget(600)
def test_a_large_file_comes_back_with_its_hash(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    file = server.folder / "big.bin"
    block, wanted = os.urandom(MEBIBYTE), hashlib.sha256()
    with file.open("wb") as output:
        for number in range(BIG_MIB):
            part = number.to_bytes(4, "big") + block[4:]
            output.write(part)
            wanted.update(part)
    try:
        run, found, up, down = server.client("-c", BIG, str(file)).split()
    finally:
        file.unlink()
    assert found == wanted.hexdigest()
    record_property("figure", f"{BIG_MIB} MiB up in {up} s, down in {down} s")
    _delete(server, run)


@pytest.mark.budget(600)
def test_a_thousand_artifacts_are_listed_and_removed_for_good(server: Server) -> None:
    run, found = server.client("-c", MANY).split()
    assert found == "1000"
    listed = server.get(f"{API}/artifacts/list", run_id=run, path="many").json()["files"]
    assert len(listed) == 1000
    assert len(_artifacts(server, run)) == 1000
    _delete(server, run)
    shown = server.in_guest("sudo mlflow-admin gc; echo code $?")
    assert run in shown
    assert "code 0" in shown, shown
    assert _artifacts(server, run) == []


def _delete(server: Server, run: str) -> None:
    _post(server, "runs/delete", {"run_id": run})


def _post(server: Server, call: str, body: dict[str, str]) -> Any:
    answer = requests.post(f"{server.url}{API}/{call}", json=body, timeout=60)
    assert answer.ok, answer.text
    return answer.json()


def _artifacts(server: Server, run: str) -> list[str]:
    """The objects of a run, as boto3 on this host lists them."""
    code = """
pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
print(json.dumps([key for key in keys if argument in key]))
"""
    found: list[str] = json.loads(_boto3(server, code, run))
    return found


def _boto3(server: Server, code: str, argument: str) -> str:
    """Run Python with boto3's `client`, the seed's `bucket` and the `argument`."""
    start = """
import boto3, json, sys
url, ca, bucket, argument = sys.argv[1:]
client = boto3.client("s3", endpoint_url=url, verify=ca or None, region_name="us-east-1")
"""
    ca = str(server.folder / "ca" / "ca.pem") if server.store.ca else ""
    key = {"AWS_ACCESS_KEY_ID": s3.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET_KEY}
    done = subprocess.run(
        [
            *(environment() / "bin/python", "-c", start + code),
            *(server.store.url, ca, server.seed.bucket, argument),
        ],
        env={**own_environment(), **key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.budget(120)
def test_an_experiment_may_have_its_own_place(server: Server) -> None:
    prefix = "" if server.seed.number == "003" else "/artifacts"
    place = f"s3://{server.seed.bucket}{prefix}/homework-{secrets.token_hex(4)}"
    if server.seed.number == "004":
        # Through the server, clients have no key for the store: the server shows what is there.
        body = {"name": "Homework", "artifact_location": place}
        experiment = _post(server, "experiments/create", body)["experiment_id"]
        run = _post(server, "runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
        key = f"{place}/{run}/artifacts/note.txt".removeprefix(f"s3://{server.seed.bucket}/")
        _boto3(server, "client.put_object(Bucket=bucket, Key=argument, Body=b'note')", key)
        assert server.get("/get-artifact", path="note.txt", run_uuid=run).text == "note"
        return
    run, text = server.client("-c", OWN_PLACE, place).split(maxsplit=1)
    assert text.strip() == "of an experiment with its own place"
    shown = server.get("/get-artifact", path="note.txt", run_uuid=run)
    assert shown.text == text.strip()


@pytest.mark.budget(60)
def test_the_server_takes_less_than_600_mb(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    shown = server.in_guest(
        "launcher=$(systemctl show -P MainPID mlflow-tracking); "
        "for pid in $launcher $(pgrep -P $launcher); do sudo cat /proc/$pid/smaps_rollup; done"
    )
    found = sum(int(kilobytes) for kilobytes in re.findall(r"^Pss: +(\d+) kB", shown, re.MULTILINE))
    assert 0 < found < 600_000, shown
    record_property("figure", f"{found / 1000:.0f} MB of memory")
