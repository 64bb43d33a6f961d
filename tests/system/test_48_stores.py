"""One VM with PostgreSQL behind pgbouncer and an S3 store on this host, both with TLS.

It boots from cloud-init/postgresql-s3.yaml with the values filled in, as seeds 000, 001 and 003
want it; the other scenarios change its settings with `mlflow-configure --apply`.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from mlflow_settings import userdata
from tests.peers import guest, postgresql, s3, stores
from tests.peers.stores import Stores

from .conftest import CHECKOUT, Tasks, url_of

pytestmark = pytest.mark.skipif(
    bool(postgresql.missing()), reason=f"missing: {postgresql.missing()}"
)

NAME = "test-stores"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with stores.running(tmp_path_factory.mktemp("peers")) as found:
        yield found


@pytest.fixture(scope="module")
def up(
    tasks: Tasks, image: Path, peers: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.CompletedProcess[str]]:
    """What `up` printed for the VM."""
    file = tmp_path_factory.mktemp("user-data") / "user-data"
    file.write_bytes(userdata.wrap(peers.settings()) + guest.NAMES)
    with tasks.vm(NAME, "--memory", "1536", "--user-data", str(file)) as done:
        yield done


@pytest.fixture(scope="module")
def url(up: subprocess.CompletedProcess[str]) -> str:
    return url_of(up)


def in_guest(tasks: Tasks, line: str) -> str:
    return tasks.in_guest(NAME, line)


def console() -> str:
    file = CHECKOUT / ".mlflow-image/vms" / NAME / "console.log"
    return file.read_text(errors="replace")


def wait_for_console(text: str, timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in console():
        assert time.monotonic() < deadline, console()[-3000:]
        time.sleep(1)


@pytest.mark.budget(900)
@pytest.mark.verifies("PostgreSQL (pgbouncer, TLS, SCRAM) and S3 (TLS): a VM from one YAML file")
def test_a_vm_with_both_stores_comes_up(url: str, peers: Stores) -> None:
    assert requests.get(f"{url}/version", timeout=20).status_code == 200
    assert peers.database.sql("SELECT count(*) FROM experiments") == "1"


@pytest.mark.budget(300)
@pytest.mark.verifies("a real client logs to PostgreSQL and S3 through a VM, and reads it back")
def test_a_real_client_logs_a_run_and_reads_it_back(url: str, tasks: Tasks) -> None:
    done = tasks("smoke-test", "--url", url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "comparisons passed" in done.stdout


@pytest.mark.budget(60)
def test_an_artifact_lies_in_the_bucket_and_comes_back(url: str) -> None:
    data = b"0123456789" * 1_000_000
    assert requests.put(f"{url}{ARTIFACTS}/9/big", data=data, timeout=60).status_code == 200
    assert requests.get(f"{url}{ARTIFACTS}/9/big", timeout=60).content == data


@pytest.mark.verifies("`server.prometheus` in a VM: the requests of all workers are counted")
def test_metrics_are_served(url: str) -> None:
    before = counted_requests(url)
    for _ in range(20):  # not /version, which is not counted
        call = f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert requests.get(call, timeout=20).status_code == 200
    # Whichever worker answers; another one that knew its own requests alone would show less.
    assert [counted_requests(url) - before >= 20 for _ in range(8)] == [True] * 8


def counted_requests(url: str) -> float:
    shown = requests.get(f"{url}/metrics", timeout=20)
    assert shown.status_code == 200
    counted = re.findall(r"^mlflow_http_request_total\{.*\} ([\d.]+)", shown.text, re.MULTILINE)
    return sum(map(float, counted))


def test_clients_need_only_the_address(tasks: Tasks, url: str) -> None:
    done = tasks("client-env", "--name", NAME, "--format", "dotenv")
    assert done.stdout.splitlines()[1:] == [f"MLFLOW_TRACKING_URI={url}"]


@pytest.mark.budget(400)
@pytest.mark.verifies("`mlflow-admin` works with the server's stores, without a URI or a key")
def test_mlflow_admin_has_the_servers_stores(tasks: Tasks, url: str) -> None:
    assert "Default" in in_guest(tasks, "sudo mlflow-admin experiments search")
    assert "use sudo" in in_guest(tasks, "mlflow-admin experiments search")
    made = requests.post(
        f"{url}/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}, timeout=20
    ).json()["run"]["info"]["run_id"]
    place = f"{url}{ARTIFACTS}/0/{made}/artifacts/x"
    assert requests.put(place, data=b"x", timeout=20).status_code == 200
    delete = f"{url}/api/2.0/mlflow/runs/delete"
    assert requests.post(delete, json={"run_id": made}, timeout=20).status_code == 200
    assert made in in_guest(tasks, "sudo mlflow-admin gc")
    # MLflow answers 500 for an object that is not in S3.
    assert requests.get(place, timeout=20).status_code in (404, 500)


@pytest.mark.budget(60)
@pytest.mark.verifies("no secret of a store is in an argument, unit, log or environment in the VM")
def test_secrets_are_nowhere_that_others_can_read(tasks: Tasks, url: str, peers: Stores) -> None:
    # Encoded, because the arguments of this very command would be found.
    patterns = decoded(f"{peers.database.password}\n{s3.SECRET_KEY}\n")
    look = (
        f"umask 077; {patterns} > /run/canaries; "
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | "
        "grep -c -F -f /run/canaries; "
        "journalctl --no-pager -o verbose | grep -c -F -f /run/canaries; "
        "grep -r -l -F -f /run/canaries /etc /run/systemd /usr/lib/systemd /var/log 2>/dev/null; "
        "find /run/mlflow -perm /077 -type f | xargs grep -l -F -f /run/canaries; "
        "rm /run/canaries"
    )
    found = in_guest(tasks, f'sudo sh -c "{look}"').split()
    assert found == ["0", "0", "/etc/mlflow/settings.yaml"]
    assert peers.database.password not in console()


#: Prints, as JSON, what the image's own code makes of each case: its faults or its server.json.
JUDGE = """
import json, pathlib, sys
sys.path.insert(0, "/usr/lib/mlflow-image")
from mlflow_settings import render, settings
from mlflow_settings.blocks.block import Machine
from mlflow_settings.document import Faults
found = {}
for folder in pathlib.Path("/tmp/cases").iterdir():
    try:
        checked = settings.check((folder / "settings.yaml").read_text(), "settings.yaml")
        found[folder.name] = render.render(checked, Machine(("10.0.2.15",)))[0].content
    except Faults as refused:
        found[folder.name] = f"{refused}\\n"
print(json.dumps(found))
"""


@pytest.mark.budget(120)
@pytest.mark.verifies("every case of settings has the same verdict on the laptop and in the VM")
def test_the_vm_judges_settings_as_the_laptop_does(
    tasks: Tasks, url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    cases = CHECKOUT / "tests/unit/mlflow_settings/cases"
    packed = tmp_path / "cases.tar.xz"
    with tarfile.open(packed, "w:xz") as archive:
        archive.add(cases, "cases", filter=lambda one: None if ".json" in one.name else one)
    archive_text = base64.b64encode(packed.read_bytes()).decode()
    unpack = f"echo {archive_text} | base64 -d | tar -xJ -C /tmp"
    judged = in_guest(tasks, f"{unpack}; {decoded(JUDGE)} | python3 -I -")
    found = json.loads(judged.splitlines()[-1])
    results = [path for path in cases.glob("*/*") if path.name in ("faults.txt", "server.json")]
    assert found == {path.parent.name: path.read_text() for path in results}
    record_property("figure", f"{len(found)} cases")


@pytest.mark.full
@pytest.mark.budget(300)
@pytest.mark.verifies("a database that goes away and comes back: both said on the console")
def test_a_database_that_goes_away_is_said_and_comes_back(
    tasks: Tasks, url: str, peers: Stores
) -> None:
    peers.database.sql(f"ALTER DATABASE {postgresql.DATABASE} ALLOW_CONNECTIONS false", "postgres")
    peers.database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IS NOT NULL "
        "AND pid <> pg_backend_pid()",
        "postgres",
    )
    try:
        wait_for_console("mlflow-tracking: database")
    finally:
        peers.database.sql(
            f"ALTER DATABASE {postgresql.DATABASE} ALLOW_CONNECTIONS true", "postgres"
        )
    wait_for_console("mlflow-tracking: the stores can be reached again")
    assert requests.get(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=60).ok


def decoded(text: str) -> str:
    """Shell words that print a text, which is encoded: arguments must not show it."""
    return f"echo {base64.b64encode(text.encode()).decode()} | base64 -d"


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies(
    "--apply with a wrong password says so and goes back to the last good settings"
)
def test_settings_whose_store_cannot_be_used_are_taken_back(
    tasks: Tasks, url: str, peers: Stores
) -> None:
    bad = peers.settings(**{f'"{peers.database.password}"': '"wrong-password"'})
    shown = tasks.apply(NAME, bad)
    assert "refused the user or the password" in shown
    assert "last good settings stay in force" in shown
    assert "either" not in shown, shown
    assert "wrong-password" not in shown
    assert requests.get(f"{url}/version", timeout=20).status_code == 200, shown


#: Gives the machine's role a key, as the metadata service of AWS does (version 2).
METADATA_STANDIN = """
import http.server, json, os
ROLE = "/latest/meta-data/iam/security-credentials/"
KEY = {
    # Without a token, which the peer refuses: only AWS knows those that it has given out.
    "Code": "Success", "Type": "AWS-HMAC", "Token": "", "Expiration": "2099-01-01T00:00:00Z",
    "AccessKeyId": os.environ["KEY_ID"], "SecretAccessKey": os.environ["KEY_SECRET"],
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer("a-token-of-the-service")
    def do_GET(self):
        self.answer("our-role" if self.path == ROLE else json.dumps(KEY))
    def answer(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())
http.server.HTTPServer(("169.254.169.254", 80), Handler).serve_forever()
"""


@pytest.mark.full
@pytest.mark.budget(400)
@pytest.mark.verifies(
    "without a key the machine's role is used (AWS; the metadata service stood in)"
)
def test_the_machines_role_is_used_without_a_key_and_only_then(
    tasks: Tasks, url: str, peers: Stores
) -> None:
    key = f"-E KEY_ID={s3.ACCESS_KEY} -E KEY_SECRET={s3.SECRET_KEY}"
    in_guest(
        tasks,
        "sudo ip address add 169.254.169.254/32 dev lo; "
        f"{decoded(METADATA_STANDIN)} | sudo tee /run/metadata.py > /dev/null; "
        f"sudo systemd-run --quiet --unit=metadata-standin {key} python3 /run/metadata.py",
    )
    lines = peers.settings().splitlines(keepends=True)
    without = "".join(line for line in lines if "access_key" not in line)
    try:
        shown = tasks.apply(NAME, without)
        assert "code 0" in shown, shown
        place = f"{url}{ARTIFACTS}/9/of-the-role"
        assert requests.put(place, data=b"role", timeout=60).status_code == 200
        assert requests.get(place, timeout=60).content == b"role"
    finally:
        shown = tasks.apply(NAME, peers.settings())
        ended = (
            "sudo systemctl stop metadata-standin; sudo ip address del 169.254.169.254/32 dev lo"
        )
        in_guest(tasks, ended)
    assert "code 0" in shown, shown
    allowed = in_guest(tasks, "systemctl show -P IPAddressAllow mlflow-tracking")
    assert "169.254" not in allowed
