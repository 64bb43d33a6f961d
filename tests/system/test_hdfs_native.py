"""The plugin with a real KDC, namenode and datanode: privacy, block tokens, two-minute tickets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlflow_image.server import local
from tests.peers import hadoop, hdfs_client
from tests.peers.hdfs_client import Client, Refused, digest
from tests.system import hdfs_rig
from tests.system.hdfs_rig import HOME, Rig, Variables

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
BIG_MIB = 200
#: A large file may not cost more memory than its packets in flight.
MOST_MIB = 64
FETCH_TOKEN = "org.apache.hadoop.hdfs.tools.DelegationTokenFetcher"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with hdfs_rig.running(tmp_path_factory.mktemp("rig")) as made:
        yield made


@pytest.fixture(scope="module")
def client(rig: Rig) -> Client:
    return rig.client("client")


@pytest.fixture(scope="module")
def faulty(rig: Rig) -> Client:
    """Another process, which each test gives variables of its own."""
    return rig.client("faulty")


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory, rig: Rig) -> Iterator[hadoop.Hdfs]:
    """A file system without Kerberos."""
    with hadoop.running(tmp_path_factory.mktemp("simple") / "hdfs") as made:
        yield made


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hdfs_rig.big_file(tmp_path_factory.mktemp("big") / "big.bin", BIG_MIB)


@pytest.mark.budget(120)
@pytest.mark.verifies("HDFS with Kerberos: folders of artifacts are logged, listed, read, deleted")
def test_a_folder_is_logged_listed_read_and_deleted(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "model"
    for name, content in {
        "MLmodel": b"flavors:",
        "empty": b"",
        "a b/ü ñ 模型.txt": b"x" * 70_000,
        "a b/deep/er/50%20.bin": os.urandom(3_000_000),
        ".hidden": b"h",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    (source / "no files").mkdir()
    client("log_all", str(source), "run 1/modèle")
    assert client("list", "run 1/modèle") == [
        ["run 1/modèle/.hidden", False, 1],
        ["run 1/modèle/MLmodel", False, 8],
        ["run 1/modèle/a b", True, None],
        ["run 1/modèle/empty", False, 0],
        ["run 1/modèle/no files", True, None],
    ]
    assert client("list", "run 1/modèle/MLmodel") == []
    assert client("list", "nowhere") == []
    back = Path(client("download", "run 1/modèle", str(tmp_path / "back")))
    for file in filter(Path.is_file, source.rglob("*")):
        assert digest(back / file.relative_to(source)) == digest(file)
    client("delete", "run 1/modèle/a b")
    assert ["run 1/modèle/a b", True, None] not in client("list", "run 1/modèle")
    client("delete", "run 1")
    client("delete", "run 1")
    assert client("list") == []


def test_a_file_is_replaced_by_another(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    for content in ("long " * 1000, "short"):
        file.write_text(content)
        client("log", str(file))
        back = client("download", "metrics.json", str(tmp_path / "back"))
        assert Path(back).read_text() == content
    client("delete", "metrics.json")


@pytest.mark.budget(120)
@pytest.mark.verifies("HDFS: 200 MB go up and down without being loaded into memory")
def test_large_files_are_streamed_both_ways(
    client: Client, big: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    before = client("peak_mib")
    client("log", str(big))
    back = client("download", "big.bin", str(tmp_path))
    more = client("peak_mib") - before
    record_property("figure", f"{more:.0f} MiB more memory for {BIG_MIB} MiB")
    assert digest(back) == digest(big)
    assert more < MOST_MIB


@pytest.mark.budget(120)
@pytest.mark.verifies("HDFS: a download that breaks off goes on where it stopped")
def test_a_download_that_breaks_goes_on(
    rig: Rig, client: Client, big: Path, tmp_path: Path
) -> None:
    client("log", str(big))
    file = tmp_path / "big.bin"
    client.send("download", "big.bin", str(tmp_path))
    until(lambda: size(file) > 20 << 20)
    client.process.send_signal(signal.SIGSTOP)  # else all is there before the datanode has ended
    rig.hdfs.stop("datanode")
    client.process.send_signal(signal.SIGCONT)
    until(lambda: stands_still(file))
    reached = size(file)
    assert 20 << 20 < reached < BIG_MIB << 20
    rig.hdfs.start("datanode")
    until(lambda: size(file) != reached)
    assert size(file) > reached
    assert digest(client.answer()) == digest(big)


def test_a_process_that_was_forked_has_a_connection_of_its_own(client: Client) -> None:
    assert client("list_in_child") == [client("list"), 0]


@pytest.fixture(scope="module")
def broken(rig: Rig) -> Mapping[str, Variables]:
    return hdfs_rig.broken(rig)


#: What is wrong -> the cause and the remedy that are said.
TEXTS = {
    "no ticket": ("there is no Kerberos ticket: No Kerberos credentials", "run kinit"),
    "no ticket of the principal": ("there is no Kerberos ticket: Can't find client", "run kinit"),
    "no keytab there": ("/none cannot be read: No such file", "must be able to read it"),
    "not a keytab": ("/bad is not a keytab: it does not begin", "klist -k FILE"),
    "another's keytab": ("has no key of mlflow, but of stranger@PEERS.TEST", "klist -k FILE"),
    "unknown principal": ("the KDC does not know this principal: Client 'gone@", "correct the"),
    "old keys": ("the keytab's keys are not those of the principal any more", "newest keytab"),
    "no KDC": ("no KDC of the realm can be reached: Cannot contact any KDC", "open port 88"),
    "realm without KDC": ("no KDC of the realm can be reached: Cannot find KDC", "correct realm"),
    "wrong realm": ("the realm is not the cluster's: Server krbtgt/OTHER", "domain_realm"),
    "no Kerberos in the client": ("the namenode hangs up: it stops, or", "core-site.xml must say"),
}


@pytest.mark.budget(60)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.verifies("HDFS: faults of Kerberos are said with cause and remedy")
def test_a_fault_of_kerberos_is_said_with_cause_and_remedy(
    rig: Rig, faulty: Client, broken: Mapping[str, Variables], name: str
) -> None:
    refused(rig, faulty, broken[name], *TEXTS[name])


def refused(rig: Rig, faulty: Client, variables: Variables, *texts: str, uri: str = "") -> None:
    """A list with these variables ends in one error of MLflow with all the texts."""
    given = {**rig.variables(f"t{time.time_ns()}"), "MLFLOW_HDFS_PATIENCE_S": "0", **variables}
    faulty("use", uri or rig.url, given)
    with pytest.raises(Refused) as caught:
        faulty("list")
    assert caught.value.type == "MlflowException"
    for text in (*texts, "What to do: "):
        assert text in str(caught.value)


@pytest.mark.budget(30)
def test_an_expired_ticket_is_said(rig: Rig, faulty: Client) -> None:
    given = {**rig.variables("expired"), "PATH": os.environ["PATH"]}
    rig.kdc.kinit(rig.keytab, hdfs_rig.USER, given["KRB5CCNAME"], "2s")
    time.sleep(3)
    without = {"KRB5_CLIENT_KTNAME": None, "KRB5CCNAME": given["KRB5CCNAME"]}
    refused(rig, faulty, without, "the Kerberos ticket has expired", "run kinit")


@pytest.mark.budget(60)
@pytest.mark.verifies("HDFS: a delegation token is used instead of a ticket")
def test_a_delegation_token_takes_the_place_of_a_ticket(rig: Rig, faulty: Client) -> None:
    token = rig.folder / "token"
    rig.hdfs.run(FETCH_TOKEN, "--renewer", hdfs_rig.USER, str(token))
    given: Variables = {
        "KRB5_CLIENT_KTNAME": None,
        "MLFLOW_KERBEROS_USER": None,
        "HADOOP_TOKEN_FILE_LOCATION": str(token),
    }
    text = f"{token} has no delegation token for this address"
    refused(rig, faulty, given, text, "write the namenode as the token does")
    by_address = rig.hdfs.url.replace("localhost", "127.0.0.1") + "/"
    faulty("use", by_address, given)
    assert faulty("list") == [["mlflow", True, None]]
    faulty("use", by_address, {"HADOOP_TOKEN_FILE_LOCATION": None})


@pytest.mark.skipif(not FAKETIME.exists(), reason="missing: faketime")
@pytest.mark.budget(30)
def test_a_clock_that_is_off_is_said(rig: Rig) -> None:
    conf = rig.folder / "no-timesync"
    text = rig.kdc.configuration.read_text()
    conf.write_text(text.replace("[libdefaults]", "[libdefaults]\n  kdc_timesync = 0"))
    off = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "-20m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    late = rig.client("late", {**off, "KRB5_CONFIG": str(conf)})
    with pytest.raises(Refused, match=r"the clock of this machine, .* set the clock"):
        late("list")


@pytest.mark.parametrize(
    ("uri", "texts"),
    [
        ("hdfs:///x", ("the address names no namenode", "write hdfs://NAMENODE:8020/FOLDER")),
        ("hdfs://cluster/x", ("the address names no namenode", "HADOOP_CONF_DIR")),
        ("hdfs://no.such.host.invalid:8020/x", ("does not resolve", "correct the namenode's name")),
        ("hdfs://localhost:1/x", ("the cluster cannot be reached", "their ports are open")),
    ],
)
def test_a_bad_address_is_said(rig: Rig, faulty: Client, uri: str, texts: tuple[str, ...]) -> None:
    refused(rig, faulty, {"HADOOP_CONF_DIR": None}, *texts, uri=uri)


def test_what_is_not_allowed_is_said_with_the_path(
    rig: Rig, faulty: Client, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    faulty("use", f"{rig.hdfs.url}/forbidden", rig.variables())
    with pytest.raises(Refused, match=r'not allow this.*inode="/":.*What to do: let the owner'):
        faulty("log", str(tmp_path / "file"))


@pytest.mark.budget(120)
@pytest.mark.verifies("HDFS: quota, safe mode and missing datanodes are said with cause and remedy")
def test_faults_of_the_cluster_are_said(rig: Rig, faulty: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    faulty("use", rig.url, {**rig.variables(), "MLFLOW_HDFS_PATIENCE_S": "0"})

    def log_is_refused(text: str, folder: str) -> None:
        with pytest.raises(Refused, match=text):
            faulty("log", str(tmp_path / "file"), folder)

    faulty("log", str(tmp_path / "file"), "small")
    rig.hdfs.admin("-setQuota", "2", f"{HOME}/small")
    log_is_refused("quota is used up: The NameSpace quota.*What to do: delete runs", "small")
    rig.hdfs.admin("-safemode", "enter")
    log_is_refused("in safe mode, and takes no changes.*What to do: wait", "safe")
    rig.hdfs.admin("-safemode", "leave")
    rig.hdfs.stop("datanode")
    log_is_refused("no datanode can take or give the data: .*dfsadmin -report", "nodes")
    rig.hdfs.start("datanode")
    faulty("use", rig.url, {"MLFLOW_HDFS_PATIENCE_S": "60"})
    faulty("log", str(tmp_path / "file"), "nodes")  # waits for the datanode


@pytest.mark.full
@pytest.mark.budget(90)
@pytest.mark.verifies("HDFS without Kerberos: artifacts belong to the user that is named")
def test_a_cluster_without_kerberos(
    rig: Rig, simple: hadoop.Hdfs, faulty: Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    python = local.environment() / "bin" / "python"
    conf = {"HADOOP_CONF_DIR": str(simple.folder / "conf")}
    with ExitStack() as stack:
        root = stack.enter_context(hdfs_client.running(python, f"{simple.url}/", conf))
        root("make_folder", "/alice", "alice")
        given = {**conf, "HADOOP_USER_NAME": "alice"}
        alice = stack.enter_context(hdfs_client.running(python, f"{simple.url}/alice", given))
        alice("log", str(tmp_path / "file"))
        assert alice("list") == [["file", False, 1]]
    without = {"HADOOP_USER_NAME": "bob", "HADOOP_CONF_DIR": conf["HADOOP_CONF_DIR"]}
    faulty("use", f"{simple.url}/alice", {**rig.variables(), **without})
    with pytest.raises(Refused, match="Permission denied: user=bob"):
        faulty("log", str(tmp_path / "file"))


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def stands_still(file: Path) -> bool:
    before = size(file)
    time.sleep(1)
    return size(file) == before


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
