"""Two VMs at the same time: different settings, invalid settings, stop and start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..standins import archive_proxy
from .conftest import CHECKOUT, Tasks

#: Names that no VM of the user should have.
LEFT, RIGHT = "test-left", "test-right"
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
CANARY = "canary-5d1f0c"
#: The canary as a pattern that does not match itself, because sudo logs this command.
SOUGHT = f"{CANARY[:-1]}[{CANARY[-1]}]"
SETTINGS = f"""\
schema_version: 1
server:
  port: 9000
  workers: 1
  allowed_hosts: [mlflow.example.com]
  allow_unknown_variables: true
  extra_environment:
    TEAM_TOKEN: {CANARY}
"""


@pytest.fixture(scope="module")
def pair(
    tasks: Tasks, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Two VMs started at once: LEFT with the defaults, RIGHT with settings. Yields name -> URL."""
    settings = tmp_path_factory.mktemp("settings") / "right.yaml"
    settings.write_text(SETTINGS)
    starts = {
        LEFT: tasks.start("up", "--name", LEFT, "--memory", "1536"),
        RIGHT: tasks.start("up", "--name", RIGHT, "--memory", "1536", "--settings", str(settings)),
    }
    try:
        outputs = {name: start.communicate(timeout=600)[0] for name, start in starts.items()}
        for name, start in starts.items():
            assert start.returncode == 0, outputs[name]
        yield {name: tracking_uri(output) for name, output in outputs.items()}
    finally:
        for name, start in starts.items():
            if start.returncode != 2:  # 2: refused, so the VM is not ours
                assert tasks("down", "--name", name).returncode == 0


def tracking_uri(output: str) -> str:
    """The server's URL in the output of `up` or `start`."""
    found = re.search(r"export MLFLOW_TRACKING_URI=(\S+)", output)
    assert found, output
    return found[1]


def answer(url: str, host: str = "") -> int:
    request = urllib.request.Request(url + PROBE, headers={"Host": host} if host else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def in_guest(tasks: Tasks, name: str, command: str) -> subprocess.CompletedProcess[str]:
    return tasks("ssh", "--name", name, "--command", command, timeout_s=400)


@pytest.mark.budget(300)
@pytest.mark.verifies("two VMs run at the same time, each with its own settings")
def test_each_vm_answers_on_its_own_loopback_port(pair: dict[str, str], tasks: Tasks) -> None:
    assert pair[LEFT] != pair[RIGHT]
    assert all(url.startswith("http://127.0.0.1:") for url in pair.values())
    assert answer(pair[LEFT]) == answer(pair[RIGHT]) == 200
    table = tasks("status").stdout
    assert pair[LEFT] in table
    assert pair[RIGHT] in table


def test_only_the_vm_that_allows_a_host_name_answers_to_it(pair: dict[str, str]) -> None:
    assert answer(pair[RIGHT], "mlflow.example.com") == 200
    assert answer(pair[LEFT], "mlflow.example.com") == 403


def test_a_secret_of_the_settings_is_in_no_log_unit_or_argument(
    pair: dict[str, str], tasks: Tasks
) -> None:
    found = in_guest(
        tasks,
        RIGHT,
        f"sudo journalctl --no-pager | grep -c {SOUGHT}; "
        f"sudo grep -rl {SOUGHT} /etc/systemd /run/systemd/system /var/log | wc -l; "
        f"ps axww -o args | grep -c {SOUGHT}; "
        f"sudo grep -l {SOUGHT} -r /etc /run/mlflow /var/lib/mlflow-image | sort",
    )
    counts, files = found.stdout.split()[:3], found.stdout.split()[3:]
    assert counts == ["0", "0", "0"], found.stdout
    assert files, "the canary is nowhere in the VM, so this test proves nothing"
    modes = in_guest(tasks, RIGHT, f"sudo stat -c %a {' '.join(files)}").stdout.split()
    assert set(modes) <= {"600", "640"}, dict(zip(files, modes, strict=False))
    log = CHECKOUT / ".mlflow-image" / "vms" / RIGHT / "console.log"
    assert CANARY not in log.read_text(errors="replace")
    assert log.parent.stat().st_mode & 0o077 == 0


def test_logs_shows_the_servers_journal(pair: dict[str, str], tasks: Tasks) -> None:
    shown = tasks("logs", "--name", RIGHT)
    assert shown.returncode == 0, shown.stderr
    assert "ready: a call through the database has succeeded" in shown.stdout


@pytest.mark.budget(60)
@pytest.mark.verifies("invalid settings: every error is reported, the last valid ones stay active")
def test_invalid_settings_are_reported_and_the_last_valid_ones_stay_active(
    pair: dict[str, str], tasks: Tasks
) -> None:
    broken = "schema_version: 1\\nserver:\\n  prot: 9000\\n  workers: many\\n"
    done = in_guest(
        tasks,
        RIGHT,
        f"printf '{broken}' | sudo tee /etc/mlflow/settings.yaml >/dev/null; "
        "sudo mlflow-configure --apply 2>&1",
    )
    assert "server.prot" in done.stdout
    assert "port" in done.stdout
    assert "server.workers" in done.stdout
    assert answer(pair[RIGHT], "mlflow.example.com") == 200


@pytest.mark.budget(60)
def test_missing_settings_are_reported_and_the_last_valid_ones_stay_active(
    pair: dict[str, str], tasks: Tasks
) -> None:
    done = in_guest(
        tasks, RIGHT, "sudo rm /etc/mlflow/settings.yaml; sudo mlflow-configure --apply 2>&1"
    )
    assert "settings.yaml" in done.stdout
    assert answer(pair[RIGHT], "mlflow.example.com") == 200


@pytest.mark.budget(120)
def test_the_boot_menu_is_what_grub_mkconfig_writes_in_the_vm(
    pair: dict[str, str], tasks: Tasks
) -> None:
    compare = "sudo sh -c 'grub-mkconfig 2>/dev/null | diff /boot/grub/grub.cfg - && echo same'"
    done = tasks("ssh", "--name", LEFT, "--command", compare)
    assert done.stdout.endswith("same\n"), done.stdout + done.stderr


@pytest.mark.budget(240)
@pytest.mark.verifies("`apt update` in the image, with the image's own sources and keys")
def test_apt_update_works_with_the_images_own_sources(pair: dict[str, str], tasks: Tasks) -> None:
    lists = Path(tasks.environment["MLFLOW_IMAGE_CACHE"]) / "apt/ubuntu-22.04/state/lists"
    with archive_proxy.serving(lists) as (port, served):
        done = in_guest(
            tasks,
            LEFT,
            f"sudo apt-get -o Acquire::http::Proxy=http://10.0.2.2:{port} "
            "-o Acquire::Languages=none update --error-on=any 2>&1",
        )
    assert done.returncode == 0, done.stdout
    suites = {path.split("/dists/")[1].split("/")[0] for path in served}
    assert suites == {"jammy", "jammy-updates", "jammy-security"}
    assert any(path.endswith("/universe/binary-amd64/Packages") for path in served)


@pytest.mark.budget(120)
@pytest.mark.verifies("a disk sealed twice has identical bytes; running VMs keep their own disk")
def test_sealing_again_gives_the_same_bytes_and_does_not_affect_running_vms(
    pair: dict[str, str], tasks: Tasks, image: Path
) -> None:
    before = (image / "disk.qcow2").stat()
    cache = Path(tasks.environment["MLFLOW_IMAGE_CACHE"])
    sums = {p: p.read_text() for p in (cache / "layers").glob("sealed-*/raw.sha256")}
    assert len(sums) == 1
    done = tasks(
        *("build-image", "--offline", "--python", "system"), "--rebuild", "sealed", "--no-verify"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p: p.read_text() for p in sums} == sums
    assert (image / "disk.qcow2").stat().st_ino == before.st_ino
    assert answer(pair[LEFT]) == 200


@pytest.mark.budget(180)
def test_a_stopped_vm_starts_again_with_its_data(pair: dict[str, str], tasks: Tasks) -> None:
    code = "import mlflow; mlflow.create_experiment('kept')"
    created = subprocess.run(
        [*PYTHON, code],
        env={**os.environ, "MLFLOW_TRACKING_URI": pair[LEFT]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert created.returncode == 0, created.stderr
    # Another port than `up` knew must be forwarded too.
    in_guest(tasks, LEFT, "sudo sed -i 's/port: 8000/port: 8600/' /etc/mlflow/settings.yaml")
    assert tasks("stop", "--name", LEFT).returncode == 0
    assert LEFT in tasks("status").stdout
    console = tasks("logs", "--name", LEFT).stdout  # the VM is off, so there is no journal
    assert "mlflow-ready http" in console
    started = tasks("start", "--name", LEFT)
    assert started.returncode == 0, started.stdout + started.stderr
    assert ":8600)" in started.stdout
    url = tracking_uri(started.stdout)
    query = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=kept"
    with urllib.request.urlopen(url + query, timeout=60) as response:  # noqa: S310
        assert b'"kept"' in response.read()


def test_a_name_in_use_is_refused(pair: dict[str, str], tasks: Tasks) -> None:
    done = tasks("up", "--name", LEFT)
    assert done.returncode == 2
    assert LEFT in done.stderr


def test_a_port_in_use_is_refused_and_named(pair: dict[str, str], tasks: Tasks) -> None:
    port = pair[RIGHT].rpartition(":")[2]
    done = tasks("up", "--name", "third", "--port", port)
    assert done.returncode == 2
    assert port in done.stderr
    assert "third" not in tasks("status").stdout


PYTHON = [sys.executable, "-c"]
