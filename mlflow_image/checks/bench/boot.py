"""How long from power-on to the first logged run, compared with a boot without MLflow."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_image import paths
from mlflow_image.checks.bench.figure import Figure, ratio
from mlflow_image.checks.bench.rate import calls_a_second
from mlflow_image.errors import Failure
from mlflow_image.host import processes
from mlflow_image.images.find import Image
from mlflow_image.progress import Step
from mlflow_image.server import ready
from mlflow_image.server.local import answers
from mlflow_image.server.user_data import DEFAULT_PORT, UserData
from mlflow_image.vm import machine, qemu, throwaway
from mlflow_image.vm.machine import Machine
from mlflow_settings import userdata

SQLITE = UserData(userdata.wrap(f"schema_version: 1\nserver:\n  port: {DEFAULT_PORT}\n"))
LOGIN_TIMEOUT_S = 600.0
#: Masks MLflow's units and resets the disk to the state before its first boot.
STRIP = """sudo sh -c '
systemctl mask mlflow-configure.service mlflow-tracking.service
cloud-init clean --logs --seed --machine-id
rm -f /etc/ssh/ssh_host_*
sync'"""
STOCK = """sudo sh -c '
systemctl stop mlflow-tracking.service
exec systemd-run --quiet --unit=stock -p User=mlflow -E MLFLOW_DISABLE_TELEMETRY=true \
  -E MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false /opt/mlflow/bin/mlflow server --host 0.0.0.0 \
  --port 8000 --workers 2 --uvicorn-opts "--loop asyncio --http h11" \
  --backend-store-uri sqlite:////var/lib/mlflow/mlflow.db'"""


def measure(image: Image, rounds: int, step: Step) -> list[Figure]:
    """Boot the image in turn with and without MLflow's units; measure the call rate in the VM."""
    bare: list[float] = []
    logged: list[float] = []
    inside: tuple[float, float] = (0.0, 0.0)
    # With --json, stdout is for the figures only.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    import mlflow.tracking  # noqa: F401 - imported before timing starts

    with stripped(image, step) as plain:
        for number in range(rounds):
            step.update(f"round {number + 1} of {rounds}: bare boot to login")
            bare.append(to_login(plain, image))
            step.update(f"round {number + 1} of {rounds}: power-on to a logged run")
            with booting(image.disk, image) as (vm, started):
                ready.wait(vm)
                log_a_run(f"http://127.0.0.1:{vm.forwarded[DEFAULT_PORT]}")
                logged.append(time.monotonic() - started)
                if number == rounds - 1:
                    step.update("log_batch inside the VM")
                    inside = rates_inside(vm)
    return [
        Figure("bare boot to login", statistics.median(bare), "s"),
        Figure("power-on to the first logged run", statistics.median(logged), "s"),
        ratio("power-on to the first logged run / bare boot", logged, bare, at_most=1.6),
        Figure(
            "log_batch in the VM, image's server / stock server",
            inside[0] / inside[1],
            "times",
            note=f"{inside[0]:.1f} against {inside[1]:.1f} calls/s",
        ),
    ]


def measure_settings(
    image: Image, given: UserData, rounds: int, step: Step, *, has_stores: bool
) -> list[Figure]:
    """Boot the image in turn with SQLite and files, and with other settings.

    given: the user-data with those. has_stores: whether they name a database or a bucket, which the
    VM reaches through this host's network; else users and HTTPS.
    """
    what, at_most = ("the stores of the settings", 1.3) if has_stores else ("users and HTTPS", 1.15)
    local: list[float] = []
    remote: list[float] = []
    for number in range(rounds):
        for name, found, data in (("SQLite", local, SQLITE), (what, remote, given)):
            step.update(f"round {number + 1} of {rounds}: power-on to ready, {name}")
            with booting(image.disk, image, data) as (vm, started):
                ready.wait(vm)
                found.append(time.monotonic() - started)
    return [
        Figure("power-on to ready, SQLite and files", statistics.median(local), "s"),
        Figure(f"power-on to ready, {what}", statistics.median(remote), "s"),
        ratio(
            f"power-on to ready, {what} / SQLite and files",
            remote,
            local,
            at_most=at_most,
        ),
    ]


@contextlib.contextmanager
def stripped(image: Image, step: Step) -> Iterator[Path]:
    """A copy of the image's disk with MLflow's units masked."""
    step.update("preparing a disk without MLflow's units")
    # Not a throwaway VM: its disk is used after it has shut down.
    folder = paths.cache() / "work" / f"bench-{secrets.token_hex(8)}"
    processes.make_owned_folder(folder)
    vm = machine.create(folder / "vm", spec(image.disk, image), b"#cloud-config\n{}\n")
    try:
        vm.start()
        vm.wait_for_ssh()
        vm.run(STRIP)
        vm.power_off()
        yield vm.directory / qemu.OVERLAY_NAME
    finally:
        vm.kill()
        shutil.rmtree(folder)


@contextlib.contextmanager
def booting(disk: Path, image: Image, data: UserData = SQLITE) -> Iterator[tuple[Machine, float]]:
    """A VM that was just powered on, and the time of that, by time.monotonic()."""
    with throwaway.booted(spec(disk, image, data), data.raw, until="started") as vm:
        yield vm, time.monotonic()


def spec(disk: Path, image: Image, data: UserData = SQLITE) -> qemu.Spec:
    return qemu.Spec(
        backing=disk,
        hostname="bench",
        forwards={data.guest_port: 0},
        ssh_user=image.login,
        restrict_network=data is SQLITE,
    )


def to_login(disk: Path, image: Image) -> float:
    """Seconds from power-on to the login prompt on the console."""
    with booting(disk, image) as (vm, started):
        while " login:" not in vm.console_text:
            if time.monotonic() - started > LOGIN_TIMEOUT_S:
                raise Failure(
                    f"no login prompt in {LOGIN_TIMEOUT_S:g} s, with MLflow's units masked"
                )
            time.sleep(0.1)
        return time.monotonic() - started


def log_a_run(url: str) -> None:
    """Log one finished run with a parameter and a metric."""
    import mlflow.tracking

    client = mlflow.tracking.MlflowClient(url)
    run = client.create_run("0").info.run_id
    client.log_param(run, "alpha", 0.5)
    client.log_metric(run, "rmse", 0.7)
    client.set_terminated(run)


def rates_inside(vm: Machine) -> tuple[float, float]:
    """The `log_batch` rates of the image's server and of a stock server in the same VM."""
    url = f"http://127.0.0.1:{vm.forwarded[DEFAULT_PORT]}"
    ours = calls_a_second(url, calls=60)
    vm.wait_for_ssh()
    vm.run(STOCK)
    deadline = time.monotonic() + LOGIN_TIMEOUT_S
    while not answers(url):
        if time.monotonic() > deadline:
            raise Failure(f"the stock server in the VM did not answer in {LOGIN_TIMEOUT_S:g} s")
        time.sleep(0.5)
    return ours, calls_a_second(url, calls=60)
