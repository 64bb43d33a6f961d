"""Two VMs of cloud-init/pair-postgresql-s3.yaml behind HAProxy, replaced while clients log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlflow_image.server import local_balancer, vms
from mlflow_image.server.local import free_port
from mlflow_image.server.local_balancer import Balancer
from mlflow_settings import userdata
from tests.peers import guest, pair, steady, stores
from tests.peers.pair import Certificates
from tests.peers.steady import Clients, Result
from tests.peers.stores import Stores

from ..conftest import Tasks
from .conftest import row

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        bool(local_balancer.missing()), reason=f"missing: {local_balancer.missing()}"
    ),
]
#: What each VM has. `workers: auto` makes one worker of it.
SIZE = ("--memory", "1024", "--cpus", "1")
#: Between two calls of a client: emulated servers have little to give.
PAUSE_S = 0.5


@dataclass(frozen=True)
class Pair:
    """ports: of each server on this host's loopback, the same for its replacement."""

    balancer: Balancer
    ports: dict[str, int]
    stores: Stores
    tasks: Tasks = field(repr=False)
    user_data: Path

    def boot(self, name: str) -> str:
        """A new VM from the image, in the place of this one; returns what `up` printed."""
        words = ("--port", str(self.ports[name]), "--user-data", str(self.user_data), *SIZE)
        done = self.tasks("up", "--name", vm_of(name), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def remove(self, name: str) -> None:
        self.tasks("down", "--name", vm_of(name))


def vm_of(name: str) -> str:
    return f"test-pair-{name}"


@pytest.fixture(scope="module")
def two(tasks: Tasks, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both VMs boot at the same time, on one empty database."""
    folder = tmp_path_factory.mktemp("pair")
    shown = Certificates.made(folder / "ca")
    ports = {name: free_port() for name in "ab"}
    with ExitStack() as stack:
        running = stack.enter_context(stores.running(folder / "stores"))
        file = folder / "user-data"
        text = pair.settings(running, shown.servers, guest.HOST)
        file.write_bytes(userdata.wrap(text) + guest.NAMES)
        place = folder / "haproxy"
        place.mkdir()
        balancer = stack.enter_context(
            local_balancer.running(place, ports, shown.clients, pair.BALANCER_PASSWORD)
        )
        found = Pair(balancer, ports, running, tasks, file)
        for name in ports:
            stack.callback(found.remove, name)
        with ThreadPoolExecutor() as pool:
            list(pool.map(found.boot, ports))
        for name in ports:
            balancer("ready", name)
        yield found


@contextmanager
def logging_clients(two: Pair, folder: Path) -> Iterator[tuple[Clients, Clients]]:
    """Seven clients with small files, and one whose files take seconds."""
    given = pair.variables(two.balancer)
    with (
        steady.running(folder / "small", given, 7, pause_s=PAUSE_S) as small,
        steady.running(folder / "large", given, 1, prefix="big", file_kb=20_000) as large,
    ):
        small.wait_for_calls(70)
        yield small, large
        small.end()
        large.end()


@pytest.mark.budget(900)
@pytest.mark.verifies("two VMs with one user-data boot at the same time on one empty database")
def test_both_come_up_on_one_empty_database(two: Pair) -> None:
    assert re.findall(r"^(\w) +UP ", two.balancer("state"), re.MULTILINE) == ["a", "b"]
    assert two.stores.database.sql("SELECT count(*) FROM experiments") == "1"
    users = two.stores.database.sql("SELECT username FROM users ORDER BY 1").split()
    assert users == ["admin", "ana", "balancer", "mlflow-image"]


@pytest.mark.budget(1800)
@pytest.mark.verifies(row("are replaced under load"))
def test_both_are_replaced_under_load(
    two: Pair, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with logging_clients(two, tmp_path) as clients:
        for name in two.ports:
            two.balancer("drain", name)
            two.remove(name)
            two.boot(name)
            two.balancer("ready", name)
            clients[0].wait_for_calls(70)
    result = Result.of(clients, two.balancer)
    record_property("figure", str(result))
    assert (result.failed, result.lost, result.twice) == ([], [], []), result


@pytest.mark.budget(900)
@pytest.mark.verifies("a VM that is shut down under load without draining: no run is lost")
def test_one_is_shut_down_without_draining(
    two: Pair, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with logging_clients(two, tmp_path) as clients:
        began_s = time.monotonic()
        assert two.tasks("stop", "--name", vm_of("a")).returncode == 0
        took_s = time.monotonic() - began_s
        clients[0].wait_for_calls(140)
        assert two.tasks("start", "--name", vm_of("a")).returncode == 0
        two.balancer("ready", "a")
    result = Result.of(clients, two.balancer)
    record_property("figure", f"{result}; the shutdown took {took_s:.0f} s")
    assert (result.failed, result.lost) == ([], []), result


@pytest.mark.budget(900)
@pytest.mark.verifies("a VM whose power is cut under load: what clients with default retries see")
def test_one_loses_its_power(
    two: Pair, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with logging_clients(two, tmp_path) as clients:
        vms.find(vm_of("a")).machine.kill()
        clients[0].wait_for_calls(210)
    result = Result.of(clients, two.balancer)
    record_property("figure", str(result))
    assert result.lost == [], result
    result.require_only_broken_answers()
