"""HDFS, Spark, sshd and Airflow, with examples/nightly installed as its README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlflow_image import files
from mlflow_image.paths import HERE
from tests.peers import environments, hadoop, spark, sshd
from tests.peers.airflow import Airflow
from tests.peers.hadoop import Hdfs
from tests.peers.sshd import Sshd

from . import nightly_pages
from .conftest import Day
from .nightly_pages import typed

READER = Path(__file__).with_name("nightly_reader.py")


@dataclass(frozen=True)
class Rig:
    """What is running. work: WORKPATH on the cluster's master, which is this machine."""

    folder: Path
    work: Path
    hdfs: Hdfs
    sshd: Sshd
    airflow: Airflow
    day: Day

    @property
    def place(self) -> str:
        """WORKPATH as scp names it."""
        return f"{self.sshd.user}@127.0.0.1:{self.work}"

    @property
    def root(self) -> str:
        """The folder of the DAG in HDFS."""
        return f"/user/{self.sshd.user}/nightly"

    def dag(self, date: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run the DAG for the day before this date. changed: Airflow's variables."""
        return self.airflow("dags", "test", "nightly", date, changed=changed)

    def start_dag(self, date: str, log: Path) -> subprocess.Popen[bytes]:
        return self.airflow.start("dags", "test", "nightly", date, log=log)

    def results(self, days: str, *, deep: bool = False) -> dict[str, Any]:
        """What a client sees in MLflow of these days. deep: models and statistics, too."""
        done = subprocess.run(
            [self.work / ".venv" / "bin" / "python", READER, days, "deep" if deep else ""],
            env={**os.environ, **self.day.variables, **self.settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    @property
    def settings(self) -> dict[str, str]:
        lines = (self.work / "cluster.env").read_text().splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def paths(self) -> list[str]:
        """The folders of the DAG in HDFS, without what is in them."""
        listed = self.hdfs.fs("-ls", "-C", f"{self.root}/*")
        return sorted(line.strip().partition(f"{self.root}/")[2] for line in listed.splitlines())

    def check(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run check.py in another copy of WORKPATH, with a home that has no mlflow.env."""
        words = ("check.py", "--first", "2026-11-01", "--last", "2026-11-01")
        return subprocess.run(
            [self.work / ".venv" / "bin" / "python", *words],
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )


def missing() -> str:
    """What this host lacks; "" when all is there."""
    return ", ".join(filter(None, (hadoop.missing(), sshd.missing())))


@contextmanager
def running(folder: Path, day: Day) -> Iterator[Rig]:
    """Run everything. Skips the test where this host lacks something."""
    if lacking := missing():
        pytest.skip(f"missing: {lacking}")
    for_cluster, for_airflow = (
        environments.of_lock(HERE.locks / "examples" / f"nightly-{part}.txt")
        for part in ("cluster", "airflow")
    )
    with (
        hadoop.running(folder / "hdfs") as hdfs,
        spark.running(folder / "spark", for_cluster) as master,
        sshd.running(folder / "sshd") as server,
    ):
        work, home = folder / "work", folder / "home"
        made = Rig(folder, work, hdfs, server, Airflow(home, for_airflow), day)
        install_on_cluster(made, for_cluster, master)
        install_in_airflow(made)
        yield made


def install_on_cluster(rig: Rig, environment: Path, spark_master: str) -> None:
    """Type the first two blocks of the README, with the locked packages."""
    laptop, work = rig.folder / "laptop", rig.work
    shutil.copytree(HERE.root / "examples", laptop / "examples")
    options = f"-P {rig.sshd.port} -i {rig.sshd.key} -o UserKnownHostsFile={laptop}/known_hosts"
    (laptop / "known_hosts").write_text(rig.sshd.known_hosts)
    client_env, *rest = nightly_pages.laptop()
    assert client_env.startswith("umask 077; scripts/invoke client-env --format dotenv --with-sec")
    # The laptop's path of the CA, which the cluster does not have.
    text = rig.day.client_env("dotenv").replace(str(rig.day.ca), "/laptop/mlflow-ca.pem")
    files.write_private(laptop / "mlflow.env", text)
    shutil.copy(rig.day.ca, laptop / "mlflow-ca.pem")
    changed = {"scp ": f"scp {options} ", "ubuntu@MASTER:nightly": rig.place}
    for line in rest:
        typed(line, laptop, {}, changed)
    first, *lines = nightly_pages.master()
    assert first == "cd nightly"
    (work / ".venv").symlink_to(environment)
    settings = {
        "SPARK_MASTER": spark_master,
        "HDFS_ROOT": rig.hdfs.url + rig.root,
        "HADOOP_CONF_DIR": str(rig.hdfs.folder / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_TOOL_OPTIONS": spark.QUICK,
    }
    for line in lines:
        if line == "nano cluster.env":
            entries = (f"{name}={value}\n" for name, value in settings.items())
            (work / "cluster.env").write_text("".join(entries))
        elif not nightly_pages.is_install(line):
            typed(line, work, {})


def install_in_airflow(rig: Rig) -> None:
    """Type the third block of the README, except for the run of the DAG."""
    home, server = rig.airflow.home, rig.sshd
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / "airflow" / "dags").mkdir(parents=True)
    shutil.copy(server.key, home / ".ssh" / "id_ed25519")
    folder = home / "nightly"
    shutil.copytree(nightly_pages.EXAMPLE, folder)
    own = {
        **{"DATAPROC_IP": "127.0.0.1", "DATAPROC_PORT": str(server.port)},
        **{"USERNAME": server.user, "WORKPATH": str(rig.work)},
    }
    *lines, last = nightly_pages.airflow()
    assert last == "airflow dags test nightly 2026-11-02"
    for line in lines:
        if line == "nano variables.json":
            variables = json.loads((folder / "variables.json").read_text())
            assert set(own) < set(variables)
            (folder / "variables.json").write_text(json.dumps({**variables, **own}))
        elif not nightly_pages.is_install(line):
            changed = {"-p 22 MASTER": f"-p {server.port} 127.0.0.1"}
            typed(line, folder, rig.airflow.surroundings(), changed)


class Watch:
    """Reads the arguments of all processes that the tests have started, until it is stopped."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.seen: set[str] = set()
        #: Processes that show the secret in their arguments, or a JVM in its environment.
        self.showing: set[str] = set()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def look(self) -> None:
        while not self.over.wait(1):
            for process in psutil.Process().children(recursive=True):
                try:
                    line = " ".join(process.cmdline())
                    values = process.environ().values() if "org.apache" in line else ()
                except psutil.Error:
                    continue
                self.seen.add(line)
                if self.secret in line or any(self.secret in value for value in values):
                    self.showing.add(line)


def process_of(words: str, timeout_s: float = 240) -> psutil.Process:
    """The process below this one whose arguments hold these words, once there is one."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if words in line and ".venv/bin/python" in line.split(" ")[0]:
                return process
        time.sleep(0.2)
    raise AssertionError(f"no process: {words}")


def wait_until(seen: Callable[[], object], what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def files_with(secret: str, *folders: Path) -> list[str]:
    """The files in these folders that hold the secret."""
    found = []
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        assert files, folder
        found += [str(path) for path in files if secret.encode() in path.read_bytes()]
    return found


def refused_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if "refused:" in line]
