"""What was acknowledged is there after outages: datanode, namenode, KDC, a new keytab, long idle.

Writers log artifacts all the while, and note outside which ones were acknowledged.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlflow_image.checks.bench import hdfs
from mlflow_image.progress import Step
from mlflow_image.server import local
from tests.peers import hadoop, hadoop_ha, hdfs_client
from tests.peers.hdfs_client import Client, digest
from tests.system import hdfs_rig
from tests.system.hdfs_rig import Rig

pytestmark = pytest.mark.full

#: The pauses of the writers, in seconds. The second one connects for each file.
PAUSES_S = {"often": 0.2, "seldom": 25.0}
TICKET_S = 120


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with hdfs_rig.running(tmp_path_factory.mktemp("rig")) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Rig]:
    """A rig of the test's own: it may run beside others."""
    with hdfs_rig.running(tmp_path / "rig") as made:
        yield made


@contextmanager
def writing(
    rig: Rig, folder: Path, record_property: Callable[[str, object], None], patience_s: int
) -> Iterator[None]:
    """Write while the body runs, and ten seconds more; then all that was acknowledged is there."""
    folder.mkdir(exist_ok=True)
    given = {"MLFLOW_HDFS_PATIENCE_S": str(patience_s)}
    uri = f"{rig.url}/{time.time_ns()}"
    writers = {name: rig.client(f"{folder.name}-{name}", given, uri) for name in PAUSES_S}
    for name, writer in writers.items():
        (folder / name).touch()
        writer.send("write", str(folder), name, PAUSES_S[name], name == "seldom")
    yield
    ended_s = time.time()
    wait_for_writes(folder, ended_s)
    (folder / "stop").touch()
    failed = sum(writer.answer() for writer in writers.values())
    reader = rig.client(f"{folder.name}-reader", {}, uri)
    lost = [path for name in PAUSES_S for path in reader("lost", str(folder), name)]
    count = sum(len((folder / name).read_text().splitlines()) for name in PAUSES_S)
    record_property("figure", f"{len(lost)} of {count} acknowledged lost, {failed} refused")
    print(f"{folder.name}: {len(lost)} of {count} lost, {failed} refused")
    assert lost == []
    assert count > len(PAUSES_S)


def wait_for_writes(folder: Path, since_s: float, timeout_s: float = 150) -> None:
    """Until each writer has had an acknowledgement again."""
    until_s = time.monotonic() + timeout_s
    for name in PAUSES_S:
        while True:
            lines = (folder / name).read_text().splitlines()
            if lines and float(lines[-1].split()[2]) > since_s:
                break
            assert time.monotonic() < until_s, f"{name} has written nothing after the outage"
            time.sleep(0.5)


def wait_for_more(folder: Path, count: int, timeout_s: float = 90) -> None:
    """Until the writer without pauses has had so many acknowledgements more."""
    file = folder / "often"
    until_s, before = time.monotonic() + timeout_s, len(file.read_text().splitlines())
    while len(file.read_text().splitlines()) < before + count:
        assert time.monotonic() < until_s, f"it has written less than {count} files"
        time.sleep(0.2)


@pytest.mark.budget(400)
@pytest.mark.verifies("HDFS: no acknowledged artifact is lost when the datanode restarts")
def test_a_datanode_restarts(
    rig: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with writing(rig, tmp_path / "datanode", record_property, patience_s=120):
        for _ in range(3):
            wait_for_more(tmp_path / "datanode", 20)
            rig.hdfs.stop("datanode")
            time.sleep(4)
            rig.hdfs.start("datanode")
        rig.hdfs.wait_until_writable()


@pytest.mark.budget(400)
@pytest.mark.verifies("HDFS: no acknowledged artifact is lost when the namenode restarts")
def test_a_namenode_restarts_by_way_of_safe_mode(
    rig: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with writing(rig, tmp_path / "namenode", record_property, patience_s=120):
        for _ in range(3):
            wait_for_more(tmp_path / "namenode", 20)
            rig.hdfs.stop("namenode")
            time.sleep(4)
            rig.hdfs.start("namenode")
            rig.hdfs.wait_until_writable()


@pytest.mark.budget(1100)
@pytest.mark.verifies("HDFS: no acknowledged artifact is lost when the KDC is away for 10 minutes")
def test_a_kdc_is_away_for_ten_minutes(
    alone: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with writing(alone, tmp_path / "kdc", record_property, patience_s=5):
        time.sleep(30)
        alone.kdc.stop()
        time.sleep(540)
        patient = alone.client("patient", {"MLFLOW_HDFS_PATIENCE_S": "300"})
        patient.send("list")
        time.sleep(60)
        alone.kdc.start()
        patient.answer()
    log = (alone.folder / "kdc-seldom.log").read_text()
    assert "the Kerberos ticket has expired, and the keytab gives no new one: no KDC answers" in log
    assert "open port 88 to the KDCs" in log


@pytest.mark.budget(700)
@pytest.mark.verifies("HDFS: a keytab that is replaced is used without a restart, nothing is lost")
def test_a_keytab_is_replaced_while_the_client_runs(
    alone: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with writing(alone, tmp_path / "keytab", record_property, patience_s=120):
        time.sleep(20)
        old = alone.keytab.read_bytes()
        new = alone.kdc.keytab(hdfs_rig.USER, alone.folder / "new.keytab")
        new.replace(alone.keytab)
        time.sleep(2.5 * TICKET_S)  # the old tickets end
    (alone.folder / "old.keytab").write_bytes(old)
    given = {"KRB5_CLIENT_KTNAME": str(alone.folder / "old.keytab")}
    with pytest.raises(Exception, match="keys are not those of the principal any more"):
        alone.client("old", given)("list")


@pytest.mark.budget(1000)
@pytest.mark.verifies("HDFS: artifacts are logged and read after twelve minutes of idle")
def test_a_process_was_idle_for_six_tickets(
    alone: Rig, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file = hdfs_rig.big_file(tmp_path / "model.bin", 3)
    client: Client = alone.client("idle")
    client("log", str(file), "before")
    time.sleep(6 * TICKET_S)
    began_s = time.monotonic()
    client("log", str(file), "after")
    took_s = time.monotonic() - began_s
    for name in ("before", "after"):
        back = client("download", f"{name}/model.bin", str(tmp_path / name))
        assert digest(back) == digest(file)
    record_property("figure", f"{took_s:.1f} s for the first upload afterwards")


@pytest.mark.budget(300)
@pytest.mark.verifies("HDFS: an upload goes on over a fail-over of the namenode")
def test_an_upload_follows_a_namenode_that_failed_over(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if lacking := hadoop.missing():
        pytest.skip(f"missing: {lacking}")
    file = hdfs_rig.big_file(tmp_path / "model.bin", 64)
    python = local.environment() / "bin" / "python"
    with (
        hadoop_ha.running(tmp_path / "hdfs") as pair,
        hdfs_client.running(
            python, f"{pair.url}/mlflow", {"HADOOP_CONF_DIR": str(pair.conf)}, tmp_path / "log"
        ) as client,
    ):
        client("log", str(file), "before")
        client.send("log_slowly", str(file), 1 << 20, 0.4)  # 26 s
        time.sleep(2)
        pair.fail_over("nn1", "nn2")
        assert client.process.stdout
        ended, _, _ = select.select([client.process.stdout], [], [], 0)
        assert not ended, "the upload had ended before the fail-over"
        begun = client.answer()
        pair.stop("nn2")  # and one that is gone
        pair.admin("-transitionToActive", "--forceactive", "nn1")
        for path in ("before/model.bin", "model.bin"):
            back = client("download", path, str(tmp_path / "back"))
            assert digest(back) == digest(file)
        assert client("list") == [["before", True, None], ["model.bin", False, 64 << 20]]
    record_property("figure", f"begun {begun} time{'s' if begun > 1 else ''}")


@pytest.mark.budget(900)
@pytest.mark.verifies("HDFS: the plugin is nearly as fast as hdfs-native alone")
def test_the_plugin_costs_little(rig: Rig, record_property: Callable[[str, object], None]) -> None:
    figures = hdfs.measure(Step("measuring", None), f"{rig.url}/bench", rig.variables("bench"))
    record_property("figure", "; ".join(f"{one.name}: {one.measured}" for one in figures))
    for figure in figures:
        print(figure.name, figure.measured, figure.note)
    assert [figure.name for figure in figures if figure.met is False] == []
