"""Two servers behind HAProxy, natively: the settings of cloud-init/pair-postgresql-s3.yaml."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from requests.adapters import HTTPAdapter

from mlflow_image.checks.bench import pair as bench
from mlflow_image.errors import Failure
from mlflow_image.server import local, local_balancer, local_proxy
from mlflow_image.server.local_balancer import Balancer
from mlflow_image.server.local_proxy import Proxied
from mlflow_settings import settings
from mlflow_settings.settings import Settings
from tests.peers import pair, steady, stores
from tests.peers.steady import Clients, Result
from tests.peers.stores import Stores

MISSING = local_balancer.missing() or ("" if local_proxy.program() else "nginx")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {MISSING}"),
]
#: The unit's RestartSec.
RESTART_S = 5.0
PROBE = "/api/2.0/mlflow/experiments/get?experiment_id=0"
BEN = ("ben", "canary-of-ben-who-signs-up")


@dataclass
class Machine:
    """A server on a port of its own, which starts again as systemd would start it."""

    folder: Path
    port: int
    chosen: Settings
    ca: Path
    starts: int = 0
    _running: ExitStack = field(default_factory=ExitStack)
    _leaders: Sequence[psutil.Process] = ()

    def start(self) -> Proxied:
        """Start as a new machine: with an empty folder."""
        place = self.folder / str(time.monotonic_ns())
        place.mkdir(parents=True)
        while True:
            self.starts += 1
            with contextlib.suppress(Failure):
                run = local_proxy.running(place, 1, self.chosen, self.ca, self.port)
                found = self._running.enter_context(run)
                launcher = next(one for one in local.launchers() if one.cwd() == str(place))
                self._leaders = (launcher, psutil.Process(found.nginx.pid))
                return found
            assert self.starts < 10, (place / "server.log").read_text()[-4000:]
            time.sleep(RESTART_S)

    def stop(self) -> None:
        self._running.close()

    def shut_down(self) -> None:
        """Stop as systemd stops both units: at the same time, with the signals of the units."""
        for one, number in zip(self._leaders, (signal.SIGTERM, signal.SIGQUIT), strict=True):
            one.send_signal(number)
        psutil.wait_procs(self._leaders, timeout=60)
        self.stop()

    def lose_power(self) -> None:
        """End everything at once."""
        family = [one for leader in self._leaders for one in leader.children(recursive=True)]
        for one in (*self._leaders, *family):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.stop()

    def log(self) -> str:
        """What all its starts have said."""
        return "".join(one.read_text() for one in self.folder.glob("*/server.log"))


@dataclass(frozen=True)
class Pair:
    balancer: Balancer
    machines: dict[str, Machine]
    stores: Stores

    def replace(self, name: str) -> None:
        """Take a server out, start another one in its place, and take it in."""
        self.balancer("drain", name)
        self.machines[name].stop()
        self.machines[name].start()
        self.balancer("ready", name)

    def get(self, who: tuple[str, str]) -> requests.Response:
        """A call on a connection of its own: either server may answer."""
        return pair.session(self.balancer.ca, who).get(self.balancer.url + PROBE, timeout=30)


class From(HTTPAdapter):
    """A client with another address of this host."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with stores.running(tmp_path_factory.mktemp("stores")) as found:
        yield found


@pytest.fixture(scope="module")
def two(running: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both start at the same instant on an empty database."""
    folder = tmp_path_factory.mktemp("pair")
    shown = pair.Certificates.made(folder / "ca")
    text = pair.settings(running, shown.servers, "127.0.0.1")
    chosen = settings.check(re.sub(r"(db|s3)\.peers\.test", "localhost", text), "x")
    machines = {name: Machine(folder / name, local.free_port(), chosen, shown.ca) for name in "ab"}
    ports = {name: one.port for name, one in machines.items()}
    with ExitStack() as stack:
        for machine in machines.values():
            stack.callback(machine.stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Machine.start, machines.values()))
        place = folder / "haproxy"
        place.mkdir()
        balancer = stack.enter_context(
            local_balancer.running(place, ports, shown.clients, pair.BALANCER_PASSWORD)
        )
        for name in machines:
            balancer("ready", name)
        yield Pair(balancer, machines, running)


@pytest.mark.budget(240)
def test_two_servers_that_start_on_one_empty_database_both_come_up(two: Pair) -> None:
    assert two.stores.database.sql("SELECT count(*) FROM experiments") == "1"
    users = two.stores.database.sql("SELECT username FROM users ORDER BY 1").split()
    assert users == ["admin", "ana", "balancer", "mlflow-image"]
    assert {name: one.starts for name, one in two.machines.items()} == {"a": 1, "b": 1}
    for machine in two.machines.values():
        assert "starting over" not in machine.log()
    shown = two.balancer("state")
    assert re.findall(r"^(\w) +UP ", shown, re.MULTILINE) == ["a", "b"]


def test_a_form_of_one_server_is_taken_by_the_other(two: Pair) -> None:
    admin = pair.session(two.balancer.ca, ("admin", pair.ADMIN_PASSWORD))
    a, b = (f"https://localhost:{two.machines[name].port}" for name in "ab")
    form = admin.get(f"{a}/signup", timeout=30).text
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token
    filled = {"csrf_token": token[1], "username": "ben", "password": BEN[1]}
    place = f"{b}/api/2.0/mlflow/users/create-ui"
    # Behind the balancer, both have one name.
    answer = admin.post(place, data=filled, headers={"Referer": f"{b}/signup"}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert two.get(BEN).status_code == 200


def test_what_one_server_has_made_is_used_at_once_on_the_other(two: Pair) -> None:
    a, b = (f"https://localhost:{two.machines[name].port}/api/2.0" for name in "ab")
    ana = pair.session(two.balancer.ca)
    for round_ in range(3):
        first, other = (a, b) if round_ % 2 else (b, a)
        made = ana.post(
            f"{first}/mlflow/experiments/create", json={"name": f"made {time.time_ns()}"}
        ).json()["experiment_id"]
        run = ana.post(f"{other}/mlflow/runs/create", json={"experiment_id": made})
        assert run.status_code == 200, run.text
        at = run.json()["run"]["info"]["run_id"]
        tag = {"run_id": at, "key": "k", "value": "v"}
        assert ana.post(f"{other}/mlflow/runs/set-tag", json=tag).status_code == 200
        place = f"{other}/mlflow-artifacts/artifacts/{made}/{at}/artifacts/x"
        assert ana.put(place, data=b"x").status_code == 200
        of_experiment = f"{first}/mlflow-artifacts/artifacts/{made}/x"
        assert ana.put(of_experiment, data=b"x").status_code == 200


def test_guesses_from_one_client_slow_down_no_other_client(two: Pair) -> None:
    guesser = pair.session(two.balancer.ca, ("ana", "a wrong password"))
    guesser.mount("https://", From("127.0.0.2"))
    seen = [guesser.get(two.balancer.url + PROBE, timeout=30).status_code for _ in range(60)]
    assert set(seen) == {401, 429}, seen
    # No worker knows this user's credentials yet.
    carl = ("carl", "canary-of-carl-the-third")
    admin = pair.session(two.balancer.ca, ("admin", pair.ADMIN_PASSWORD))
    made = {"username": carl[0], "password": carl[1]}
    place = f"{two.balancer.url}/api/2.0/mlflow/users/create"
    assert admin.post(place, json=made, timeout=30).status_code == 200
    assert [two.get(carl).status_code for _ in range(4)] == [200] * 4
    # What a client says of itself does not count.
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    again = [
        guesser.get(two.balancer.url + PROBE, headers=forged, timeout=30).status_code
        for _ in range(20)
    ]
    assert 429 in again
    logs = "".join(one.log() for one in two.machines.values())
    assert "wrong passwords from 127.0.0.2" in logs
    assert "203.0.113.9" not in logs


@pytest.mark.budget(120)
def test_a_changed_password_works_at_once_here_and_within_a_minute_there(
    two: Pair, record_property: Callable[[str, object], None]
) -> None:
    a, b = (f"https://localhost:{two.machines[name].port}" for name in "ab")
    dora, new = ("dora", "canary-of-dora-before"), "canary-of-dora-afterwards"
    admin = pair.session(two.balancer.ca, ("admin", pair.ADMIN_PASSWORD))
    users = f"{a}/api/2.0/mlflow/users"
    made = {"username": dora[0], "password": dora[1]}
    assert admin.post(f"{users}/create", json=made, timeout=30).status_code == 200
    assert {pair.session(two.balancer.ca, dora).get(one + PROBE).status_code for one in (a, b)} == {
        200
    }
    changed = {"username": dora[0], "password": new}
    assert admin.patch(f"{users}/update-password", json=changed, timeout=30).status_code == 200
    began_s = time.monotonic()
    old, fresh = (pair.session(two.balancer.ca, ("dora", one)) for one in (dora[1], new))
    assert old.get(a + PROBE).status_code == 401
    assert [fresh.get(one + PROBE).status_code for one in (a, b)] == [200, 200]
    while old.get(b + PROBE).status_code == 200:
        assert time.monotonic() - began_s < 62
        time.sleep(1)
    record_property("figure", f"there after {time.monotonic() - began_s:.0f} s")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "usage: balancer state"),
        (("drain",), "which server? for example: balancer drain a"),
        (("drain", "c"), 'no server "c" in the backend mlflow: a b'),
        (("ready", "a", "server-a.example.com"), "is not an IP address"),
        (("stop", "a"), "usage: balancer state"),
    ],
)
def test_wrong_words_are_refused_and_change_nothing(
    two: Pair, words: tuple[str, ...], said: str
) -> None:
    before = two.balancer("state")
    done = two.balancer.tried(*words)
    assert (done.returncode, said in done.stderr) == (2, True), done
    assert re.findall(r"^\S+ +\S+", two.balancer("state"), re.MULTILINE) == re.findall(
        r"^\S+ +\S+", before, re.MULTILINE
    )


@pytest.mark.budget(30)
def test_a_wait_that_lasts_too_long_ends_with_the_reason(two: Pair) -> None:
    limit = {"MLFLOW_BALANCER_WAIT": "2"}
    nowhere = two.balancer.tried("ready", "b", "127.0.0.9", variables=limit)
    assert nowhere.returncode == 1
    assert "server b is DOWN (check: L4CON) after 2 s" in nowhere.stderr, nowhere
    two.balancer("ready", "b", "127.0.0.1")
    gone = two.balancer.tried("state", variables={"MLFLOW_BALANCER_SOCKET": "/nowhere/admin.sock"})
    assert (gone.returncode, "no socket /nowhere/admin.sock" in gone.stderr) == (2, True)


@pytest.mark.budget(30)
def test_a_server_with_a_certificate_of_another_authority_is_never_used(
    two: Pair, tmp_path: Path
) -> None:
    ports = {name: one.port for name, one in two.machines.items()}
    other = pair.Certificates.made(tmp_path / "ca")
    run = local_balancer.running(tmp_path, ports, other.clients, pair.BALANCER_PASSWORD)
    with run as balancer:
        wait_for_state(balancer, {"a": "DOWN", "b": "DOWN"})
        assert "L6RSP" in balancer("state")
        answer = pair.session(other.ca).get(balancer.url + PROBE, timeout=30)
        assert answer.status_code == 503


@pytest.mark.budget(120)
def test_a_server_without_its_database_is_taken_out(two: Pair) -> None:
    database = two.stores.database
    database.sql(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false", "postgres")
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IS NOT NULL "
        "AND pid <> pg_backend_pid()",
        "postgres",
    )
    try:
        wait_for_state(two.balancer, {"a": "DOWN", "b": "DOWN"})
        admin = pair.session(two.balancer.ca)
        for machine in two.machines.values():
            assert admin.get(f"https://localhost:{machine.port}/health").status_code == 200
    finally:
        database.sql(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS true", "postgres")
    wait_for_state(two.balancer, {"a": "UP", "b": "UP"})


def wait_for_state(balancer: Balancer, wanted: dict[str, str], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while dict(re.findall(r"^(\w) +(\w+)", balancer("state"), re.MULTILINE)) != wanted:
        assert time.monotonic() < deadline_s, balancer("state")
        time.sleep(0.5)


@contextlib.contextmanager
def logging_clients(two: Pair, folder: Path) -> Iterator[tuple[Clients, Clients]]:
    """Seven clients with small files, and one whose files take a while."""
    given = pair.variables(two.balancer)
    with (
        steady.running(folder / "small", given, 7, pause_s=0.1) as small,
        steady.running(folder / "large", given, 1, prefix="big", file_kb=50_000) as large,
    ):
        small.wait_for_calls(140)
        yield small, large
        small.end()
        large.end()


@pytest.mark.budget(300)
@pytest.mark.verifies("both of two servers are replaced under load, natively: no call fails")
def test_servers_are_replaced_under_load_and_no_client_notices(
    two: Pair, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with logging_clients(two, tmp_path) as clients:
        for name in "ab":
            two.replace(name)
            clients[0].wait_for_calls(140)
    result = Result.of(clients, two.balancer)
    record_property("figure", str(result))
    print(result)
    assert (result.failed, result.lost, result.twice) == ([], [], []), result


@pytest.mark.budget(300)
@pytest.mark.parametrize("how", ["shut_down", "lose_power"])
@pytest.mark.verifies("a server that ends under load without draining, natively: no run is lost")
def test_a_server_that_ends_without_draining(
    two: Pair, tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    with logging_clients(two, tmp_path) as clients:
        getattr(two.machines["a"], how)()
        clients[0].wait_for_calls(280)
        two.machines["a"].start()
        two.balancer("ready", "a")
        clients[0].wait_for_calls(70)
    result = Result.of(clients, two.balancer)
    record_property("figure", f"{how.replace('_', ' ')}: {result}")
    print(how, result)
    assert result.lost == [], result
    if how == "shut_down":
        assert result.failed == [], result
    else:
        result.require_only_broken_answers()


def used_s(leaders: Iterable[int]) -> float:
    """The processor time so far of these processes and all that they have started."""
    total = 0.0
    for leader in leaders:
        process = psutil.Process(leader)
        total += process.cpu_times().children_user + process.cpu_times().children_system
        for one in (process, *process.children(recursive=True)):
            total += one.cpu_times().user + one.cpu_times().system
    return total


@pytest.mark.budget(240)
@pytest.mark.verifies("what a call costs the server, PostgreSQL with pgbouncer, and HAProxy")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hold servers to a share")
def test_what_a_call_costs_each_part(
    running: Stores, record_property: Callable[[str, object], None]
) -> None:
    text = running.settings().replace("db.peers.test", "localhost")
    chosen = settings.check(text.replace("s3.peers.test", "localhost"), "x")
    database = psutil.Process(
        int((running.database.folder / "data" / "postmaster.pid").read_text().split()[0])
    )
    pooler = next(
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if str(running.database.folder / "pgbouncer.ini") in (one.info["cmdline"] or ())
    )
    with bench.serving(chosen, 50) as serving:
        parts = {
            "the server": serving.leaders["a"],
            "PostgreSQL": (database.pid,),
            "pgbouncer": (pooler,),
            "HAProxy": (serving.balancer.pid,),
        }
        serving.balancer("drain", "b")
        before = {name: used_s(leaders) for name, leaders in parts.items()}
        rate = bench.calls_a_second(serving.balancer)
        calls = rate * (bench.MEASURED_S + bench.WARM_UP_S)
        cost_ms = {
            name: 1000 * (used_s(leaders) - before[name]) / calls for name, leaders in parts.items()
        }
    shown = ", ".join(f"{name} {ms:.1f} ms" for name, ms in cost_ms.items())
    record_property("figure", f"log_batch of 10 metrics at {rate:.0f} calls/s: {shown}")
    print(shown)
    # A server needs more than its database: that is why a second server helps.
    assert cost_ms["the server"] > 1.6 * (cost_ms["PostgreSQL"] + cost_ms["pgbouncer"]), shown
