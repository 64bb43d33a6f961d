"""One VM with users and HTTPS: who gets in, by which names, and what nginx may do."""

from __future__ import annotations

import base64
import json
import re
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from .conftest import CHECKOUT, Tasks, url_of

NAME = "test-doors"
CANARY = "canary-of-ana-and-nobody-else"
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
TEXT = f"""\
schema_version: 1
auth:
  basic:
    users: [{{name: ana, password: {CANARY}}}]
tls:
  self_signed: {{names: [mlflow.example.com]}}
"""


@pytest.fixture(scope="module")
def up(
    tasks: Tasks, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.CompletedProcess[str]]:
    """What `up` printed for the VM."""
    file = tmp_path_factory.mktemp("settings") / "settings.yaml"
    file.write_text(TEXT)
    with tasks.vm(NAME, "--settings", str(file)) as done:
        yield done


@pytest.fixture(scope="module")
def url(up: subprocess.CompletedProcess[str]) -> str:
    return url_of(up)


@pytest.fixture(scope="module")
def ca(
    up: subprocess.CompletedProcess[str],
    url: str,
    tasks: Tasks,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The authority's certificate, as client-env writes it."""
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    done = tasks("client-env", "--name", NAME, "--ca", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"MLFLOW_TRACKING_SERVER_CERT_PATH={file}" in done.stdout
    assert "export MLFLOW_TRACKING_SERVER_CERT_PATH=$PWD/mlflow-ca.pem" in up.stdout
    return file


@pytest.fixture(scope="module")
def password(up: subprocess.CompletedProcess[str], tasks: Tasks) -> str:
    """The one that the machine has made, by the command that `up` prints."""
    (shown,) = re.findall(r"^password  of admin: `(.*)`$", up.stdout, re.MULTILINE)
    words = shlex.split(shown)
    done = tasks(*words[words.index("ssh") :])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def status(url: str, ca: Path, who: tuple[str, str] | None = None, path: str = EXPERIMENT) -> int:
    with requests.Session() as session:
        session.trust_env, session.verify, session.auth = False, str(ca), who
        return session.get(url + path, timeout=60).status_code


@pytest.mark.budget(600)
@pytest.mark.verifies("users and HTTPS: a VM from two blocks of YAML")
def test_users_get_in_through_https_and_nobody_else_does(url: str, ca: Path, password: str) -> None:
    assert url.startswith("https://127.0.0.1:")
    assert len(password) == 24
    tried = {None: 401, ("admin", password): 200, ("ana", CANARY): 200, ("ana", password): 401}
    assert {who: status(url, ca, who) for who in tried} == tried
    assert status(url, ca, None, "/health") == 200


@pytest.mark.budget(60)
def test_the_certificate_is_for_each_name_and_address(url: str, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    for name in ("127.0.0.1", "localhost", "mlflow.example.com", "10.0.2.15", NAME):
        with (
            socket.create_connection(("127.0.0.1", int(urlsplit(url).port or 0))) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            assert secured.version() == "TLSv1.3"


@pytest.mark.budget(400)
@pytest.mark.verifies("a real client logs a run through HTTPS with a password")
def test_a_real_client_logs_a_run(url: str, ca: Path, password: str, tasks: Tasks) -> None:
    variables = {
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": password,
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(ca),
    }
    done = tasks("smoke-test", "--url", url, variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "comparisons passed" in done.stdout


@pytest.mark.budget(240)
def test_the_operator_needs_no_password_on_the_machine(tasks: Tasks, url: str, ca: Path) -> None:
    made = tasks.in_guest(NAME, "sudo mlflow-admin users add eve --made")
    eve = ("eve", made.splitlines()[0])
    assert status(url, ca, eve) == 200
    tasks.in_guest(NAME, "sudo mlflow-admin users delete eve")
    assert status(url, ca, eve) == 401
    assert "Default" in tasks.in_guest(NAME, "sudo mlflow-admin experiments search")


@pytest.mark.budget(120)
def test_the_server_listens_for_nginx_alone(tasks: Tasks, url: str) -> None:
    listening = tasks.in_guest(NAME, "sudo ss -Htlnp")
    ports = {
        (address.rpartition(":")[2], "nginx" in line)
        for line in listening.splitlines()
        if (address := line.split()[3]) and ("nginx" in line or "python" in line)
    }
    assert ports == {("443", True), ("80", True), ("8000", True)}
    assert "127.0.0.1:8000" in listening
    mode = tasks.in_guest(NAME, "sudo stat -c '%a %U %G' /run/mlflow-socket/server.sock").strip()
    assert mode == "660 mlflow mlflow-proxy"


@pytest.mark.budget(120)
@pytest.mark.verifies("nginx's unit is hardened: exposure below 2.5; the server's stays at 1.3")
def test_both_units_are_hardened(tasks: Tasks, url: str, record_property: object) -> None:
    found = {}
    for unit in ("mlflow-proxy", "mlflow-tracking"):
        said = tasks.in_guest(NAME, f"systemd-analyze security {unit} | tail -1")
        found[unit] = float(said.split(":")[1].split()[0])
    assert found["mlflow-proxy"] < 2.5
    assert found["mlflow-tracking"] <= 1.3


@pytest.mark.budget(120)
def test_no_password_and_no_key_is_where_others_can_read_it(
    tasks: Tasks, url: str, password: str
) -> None:
    patterns = base64.b64encode(f"{CANARY}\n{password}\n".encode()).decode()
    look = (
        # Encoded, because the arguments of this very command would be found.
        f"umask 077; echo {patterns} | base64 -d > /root/canaries; "
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | "
        "grep -cFf /root/canaries; journalctl --no-pager -o verbose | grep -cFf /root/canaries; "
        "grep -rlFf /root/canaries /run /etc /usr/lib/systemd /var/log 2>/dev/null; "
        "rm /root/canaries"
    )
    in_processes, in_journal, *found = tasks.in_guest(NAME, f'sudo sh -c "{look}"').split()
    assert (in_processes, in_journal) == ("0", "0")
    private = {
        *("/run/mlflow/auth.ini", "/run/mlflow/auth-users.json"),
        "/etc/mlflow/settings.yaml",
    }
    in_cloud_init = {one for one in found if "/cloud" in one}
    assert set(found) - in_cloud_init == private
    console = CHECKOUT / ".mlflow-image/vms" / NAME / "console.log"
    text = console.read_text(errors="replace")
    assert "the first password of admin: sudo cat /var/lib/mlflow-image/admin-password" in text
    assert password not in text
    modes = tasks.in_guest(NAME, "sudo stat -c '%a' /run/mlflow-proxy /run/mlflow-proxy/key.pem")
    assert modes.split() == ["750", "640"]


@pytest.mark.budget(300)
def test_a_renewed_certificate_and_a_killed_nginx_keep_the_server_up(
    tasks: Tasks, url: str, ca: Path, password: str
) -> None:
    before = ssl.get_server_certificate(("127.0.0.1", int(urlsplit(url).port or 0)))
    tasks.in_guest(NAME, "sudo rm /var/lib/mlflow-image/tls/certificate.pem")
    said = tasks.in_guest(NAME, "sudo systemctl start mlflow-certificate; journalctl -u mlflow-c*")
    assert "the server has a new certificate" in said
    assert status(url, ca, ("admin", password)) == 200
    assert ssl.get_server_certificate(("127.0.0.1", int(urlsplit(url).port or 0))) != before
    tasks.in_guest(NAME, "sudo systemctl kill --signal=KILL mlflow-proxy")
    deadline_s = time.monotonic() + 60
    while True:
        try:
            if status(url, ca, ("admin", password)) == 200:
                return
        except requests.ConnectionError:
            pass
        assert time.monotonic() < deadline_s
        time.sleep(1)


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies("users and HTTPS are put on and off again by mlflow-configure --apply")
def test_apply_takes_https_away_and_brings_it_back(
    tasks: Tasks, url: str, ca: Path, password: str
) -> None:
    plain = json.dumps("schema_version: 1\n")
    apply = f"echo -n {shlex.quote(json.loads(plain))} | sudo tee /etc/mlflow/settings.yaml"
    tasks.in_guest(NAME, "sudo cp /etc/mlflow/settings.yaml /etc/mlflow/kept.yaml")
    said = tasks.in_guest(NAME, f"{apply} >/dev/null; sudo mlflow-configure --apply")
    asked = f"http://127.0.0.1:8000{EXPERIMENT}"
    line = f"python3 -c \"import urllib.request as u; print(u.urlopen('{asked}').status)\""
    found = tasks.in_guest(NAME, f"{line}; systemctl is-active mlflow-proxy")
    assert found.split() == ["200", "inactive"], said + found
    said = tasks.in_guest(
        NAME,
        "sudo mv /etc/mlflow/kept.yaml /etc/mlflow/settings.yaml; sudo mlflow-configure --apply",
    )
    assert status(url, ca, ("admin", password)) == 200, said
