"""Every night, over SSH on a cluster: data, two models, and a test of which one is better."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import paramiko
from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, Variable
from airflow.sdk.exceptions import AirflowFailException

#: The first day. Airflow runs every day since then, one after the other.
START = datetime(2026, 11, 1, tzinfo=timezone.utc)
MODELS = ("logistic_regression", "random_forest")
NAMES = ("DATAPROC_IP", "DATAPROC_PORT", "KEY_FILE", "USERNAME", "WORKPATH")
#: A step that is refused on the cluster exits with it: another attempt would be refused, too.
REFUSED = 2
CONNECT_S, SILENT_S = 20, 900
#: The range: the days of the schedule, or those that the run was triggered with.
DAYS = (
    "--dag {{ dag.dag_id }} --first {{ params.first or (data_interval_start | ds) }}"
    " --last {{ params.last or ((data_interval_end - macros.timedelta(days=1)) | ds) }}"
)


class RefusedError(Exception):
    """Something that a person has to correct; its text is the one line that is shown."""


@dataclass(frozen=True)
class Master:
    """Where the steps run, from Airflow's variables."""

    host: str
    port: int
    key: Path
    user: str
    folder: str

    @classmethod
    def of(cls, values: Mapping[str, str | None]) -> Master:
        """Raises RefusedError for a value that is missing or wrong."""
        found = {name: (values[name] or "").strip() for name in NAMES}
        if missing := [name for name in NAMES if not found[name]]:
            raise RefusedError(
                f"Airflow's variable {missing[0]} is not set: Admin > Variables, "
                f"or `airflow variables set {missing[0]} VALUE`"
            )
        port = found["DATAPROC_PORT"]
        if not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
            raise RefusedError(f"DATAPROC_PORT is no port: {port}: set it to 22, or to sshd's own")
        if not found["WORKPATH"].startswith("/"):
            raise RefusedError(f"WORKPATH must begin with /: {found['WORKPATH']}")
        key = Path(found["KEY_FILE"]).expanduser()
        refuse_open_key(key)
        return cls(found["DATAPROC_IP"], int(port), key, found["USERNAME"], found["WORKPATH"])

    def hook(self) -> SSHHook:
        made = SSHHook(
            remote_host=self.host,
            port=self.port,
            username=self.user,
            key_file=str(self.key),
            conn_timeout=CONNECT_S,
            cmd_timeout=SILENT_S,
            keepalive_interval=30,
        )
        made.no_host_key_check = False  # the provider's default accepts any host
        return made


def refuse_open_key(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
        with key.open("rb"):
            pass
    except OSError as error:
        raise RefusedError(
            f"KEY_FILE {key} cannot be read ({error.strerror}): copy the key there, "
            "owned by the user that runs Airflow's tasks"
        ) from None
    if mode & 0o077:
        raise RefusedError(
            f"KEY_FILE {key} has mode {mode:04o}: others can use it: chmod 600 {key}"
        )


class Step(SSHOperator):
    """A script on the cluster's master, with the arguments in `command`."""

    template_fields = ("command",)

    def __init__(self, *, script: str, **words: Any) -> None:
        # With a terminal, sshd ends the script when this task is killed or times out.
        super().__init__(command=f"{script} {DAYS}", get_pty=True, do_xcom_push=False, **words)

    def execute(self, context: Any = None) -> Any:
        try:
            master = Master.of({name: Variable.get(name, default=None) for name in NAMES})
            self.ssh_hook = master.hook()
            there = f"cd {shlex.quote(master.folder)} || exit {REFUSED}"
            self.command = f"{there}; exec .venv/bin/python {self.command}"
            return super().execute(context)
        except RefusedError as refused:
            self.refuse(str(refused))
        except paramiko.SSHException as error:
            if "not found in known_hosts" not in str(error):
                raise
            known = "~/.ssh/known_hosts of the user that runs Airflow"
            scan = f"ssh-keyscan -p {master.port} {master.host}"
            self.refuse(f"the key of {master.host} is not in {known}: compare and add: {scan}")

    def raise_for_status(self, exit_status: int, stderr: bytes, context: Any = None) -> None:
        if exit_status in (REFUSED, 126, 127):
            raise RefusedError("the cluster's master refused the step; the line above says why")
        super().raise_for_status(exit_status, stderr, context)

    def refuse(self, line: str) -> None:
        """Fail without another attempt."""
        raise AirflowFailException(line)


class Check(Step):
    """The first step. It has no retries, so it can end with one line and without a traceback."""

    def refuse(self, line: str) -> None:
        self.log.error("refused: %s", line)
        raise SystemExit(REFUSED)


with DAG(
    "nightly",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=START,
    catchup=True,
    max_active_runs=1,
    max_active_tasks=1,  # one Spark session at a time: the cluster is small
    params={
        name: Param(None, type=["null", "string"], pattern=r"^\d{4}-\d\d-\d\d$")
        for name in ("first", "last")
    },
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(hours=1),
    },
) as dag:
    check = Check(task_id="check", script="check.py", retries=0)
    generate = Step(task_id="generate", script="generate.py")
    preprocess = Step(task_id="preprocess", script="preprocess.py")
    train = [Step(task_id=name, script=f"train.py --model {name}") for name in MODELS]
    compare = Step(task_id="compare", script="compare.py")
    check >> generate >> preprocess >> train >> compare
