"""The launcher with a folder in a Kerberized HDFS, all real, on loopback."""

from __future__ import annotations

import base64
import getpass
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from mlflow_image.server import local
from mlflow_settings import settings
from tests.peers import hadoop, hadoop_ha, kdc
from tests.peers.hadoop import Hdfs
from tests.peers.kdc import Kdc

from .test_stores_native import looked

LACKING = ", ".join(filter(None, (kdc.missing(), hadoop.missing())))
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"missing: {LACKING}")

FETCH_TOKEN = "org.apache.hadoop.hdfs.tools.DelegationTokenFetcher"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
#: For a start.
START_S = 120
#: With a blank and letters that a URI quotes.
PLACE = "/user/mlflow/команда one"


@dataclass
class Cluster:
    """A KDC, an HDFS with privacy, and the settings of a server that uses them."""

    realm: Kdc
    hdfs: Hdfs
    keytab: bytes = field(repr=False)

    def settings(self, **changed: str) -> str:
        """The settings as a user writes them. changed: what replaces other lines, by their key."""
        values = {
            "namenode": f'"localhost:{self.hdfs.port}"',
            "path": PLACE,
            "principal": f"mlflow@{kdc.REALM}",
            "keytab": base64.b64encode(self.keytab).decode(),
            "krb5": f'{{realm: {kdc.REALM}, kdcs: ["127.0.0.1:{self.realm.port}"], '
            f"domain_realm: {{localhost: {kdc.REALM}}}}}",
            "protection": "privacy",
            **changed,
        }
        lines = (f"    {key}: {value}\n" for key, value in values.items() if value)
        return "schema_version: 1\nartifact_store:\n  hdfs:\n" + "".join(lines)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    base = tmp_path_factory.mktemp("cluster")
    with kdc.running(base / "kdc") as realm, hadoop.running(base / "hdfs", realm) as hdfs:
        keytab = realm.keytab("mlflow")
        hdfs.fs("-mkdir", "-p", "/user/mlflow")
        hdfs.fs("-chown", "mlflow", "/user/mlflow")
        yield Cluster(realm, hdfs, keytab.read_bytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(cluster: Cluster, folder: Path) -> Iterator[str]:
    chosen = settings.check(cluster.settings(), "settings.yaml")
    with local.ours(folder, 2, stores=chosen) as url:
        yield url


@pytest.mark.budget(START_S)
def test_a_server_with_hdfs_imports_early_and_rehearses(server: str, folder: Path) -> None:
    log = (folder / "server.log").read_text()
    assert "preload-hdfs: " in log
    assert "rehearsed the first calls" in log
    for bad in ("starting over", "differs", "threads run while", "not ready yet", "missing"):
        assert bad not in log, log


def test_an_artifact_comes_back_through_the_server_and_lies_in_the_cluster(
    server: str, cluster: Cluster
) -> None:
    data = b"0123456789" * 300_000
    place = f"{server}{ARTIFACTS}/1/a b/big.bin"
    put = requests.put(place, data=data, timeout=60)
    assert put.status_code == 200, put.text
    assert requests.get(place, timeout=60).content == data
    listed = requests.get(f"{server}{ARTIFACTS}", params={"path": "1/a b"}, timeout=60).json()
    assert listed["files"] == [{"path": "big.bin", "is_dir": False, "file_size": len(data)}]
    assert "big.bin" in cluster.hdfs.fs("-ls", f"{PLACE}/1/a b")
    assert requests.delete(place, timeout=60).status_code == 200
    assert requests.get(place, timeout=60).status_code == 404


def test_experiments_may_lie_in_the_servers_own_folder_only(server: str, cluster: Cluster) -> None:
    create = f"{server}/api/2.0/mlflow/experiments/create"

    def made(location: str) -> int:
        document = {"name": location, "artifact_location": location}
        return requests.post(create, json=document, timeout=20).status_code

    own = f"hdfs://localhost:{cluster.hdfs.port}{quote(PLACE)}"
    assert made(f"{own}/x") == 200
    for foreign in (
        f"{own}/../other",
        f"{own}more",
        f"hdfs://localhost:{cluster.hdfs.port}/user",
        f"hdfs://elsewhere:8020{PLACE}/x",
        f"hdfs://{PLACE}/x",
        f"viewfs://localhost:{cluster.hdfs.port}{PLACE}/x",
        "s3://bucket/x",
        "file:///etc",
    ):
        assert made(foreign) == 400, foreign


@pytest.mark.budget(60)
@pytest.mark.verifies("the server's memory is flat while 500 MB go into HDFS and back (natively)")
def test_the_memory_of_the_workers_is_flat(server: str, tmp_path: Path) -> None:
    (launcher,) = local.launchers()
    file = tmp_path / "big"
    with file.open("wb") as output:
        output.truncate(500_000_000)
    place = f"{server}{ARTIFACTS}/1/large"

    def largest_mib() -> float:
        return max(one.memory_info().rss for one in launcher.children()) / (1 << 20)

    requests.put(f"{server}{ARTIFACTS}/1/small", data=b"x" * 1_000_000, timeout=60)
    before, found = largest_mib(), 0.0
    with file.open("rb") as body:
        assert requests.put(place, data=body, timeout=120).status_code == 200
    found = largest_mib()
    with requests.get(place, stream=True, timeout=120) as answer:
        size = 0
        for piece in answer.iter_content(1 << 20):
            size += len(piece)
            found = max(found, largest_mib())
    assert size == 500_000_000
    assert found - before < 50


def test_the_keytab_is_in_no_environment_no_argument_and_no_log(
    server: str, folder: Path, cluster: Cluster
) -> None:
    canary = base64.b64encode(cluster.keytab).decode()
    (launcher,) = local.launchers()
    for one in (launcher, *launcher.children()):
        assert canary not in " ".join([*one.cmdline(), *one.environ().values()])
    for name in ("server.log", "server.json"):
        assert canary not in (folder / name).read_text(), name
    assert (folder / "hdfs.keytab").stat().st_mode & 0o077 == 0


@pytest.mark.budget(90)
@pytest.mark.verifies("what is wrong with HDFS or Kerberos is told apart, with a remedy (natively)")
def test_what_is_wrong_with_a_cluster_is_told_apart(cluster: Cluster, tmp_path: Path) -> None:
    realm = cluster.realm
    keytab = base64.b64encode(realm.keytab("bob").read_bytes()).decode()
    old = base64.b64encode(realm.keytab("carol").read_bytes()).decode()
    realm.keytab("carol")
    gone = base64.b64encode(realm.keytab("dave").read_bytes()).decode()
    realm.admin("delprinc -force dave")
    other_realm = f'{{realm: OTHER.TEST, kdcs: ["127.0.0.1:{realm.port}"]}}'
    away = f'{{realm: {kdc.REALM}, kdcs: ["127.0.0.1:1"]}}'
    cluster.hdfs.fs("-mkdir", "-p", "/quota")
    cluster.hdfs.fs("-chmod", "777", "/quota")
    cluster.hdfs.admin("-setSpaceQuota", "1", "/quota")
    found = {
        cluster.settings(namenode='"no-such-host.invalid:8020"'): "does not resolve",
        cluster.settings(namenode='"localhost:1"'): "port 1 refuses the connection",
        cluster.settings(namenode=f'"localhost:{realm.port}"'): "correct the port in namenode",
        cluster.settings(keytab=keytab, principal=f"bob@{kdc.REALM}"): (
            "HDFS does not allow this: Permission denied: user=bob"
        ),
        cluster.settings(keytab=old, principal=f"carol@{kdc.REALM}"): (
            "the keytab's keys are not those of the principal any more"
        ),
        cluster.settings(keytab=gone, principal=f"dave@{kdc.REALM}"): (
            "the KDC does not know this principal"
        ),
        cluster.settings(krb5=other_realm): "correct krb5.realm and krb5.kdcs",
        cluster.settings(krb5=away): "no KDC of the realm can be reached",
        cluster.settings(path="/quota/x"): "quota is used up",
        cluster.settings(path="/"): "Permission denied",
        cluster.settings(principal="", keytab="", krb5="", protection="", user="mlflow"): (
            "write principal and keytab if the cluster has Kerberos"
        ),
    }
    token = tmp_path / "token"
    cluster.hdfs.run(FETCH_TOKEN, "--renewer", "mlflow", str(token))
    with_token = {
        "token": base64.b64encode(token.read_bytes()).decode(),
        **dict.fromkeys(("principal", "keytab", "krb5"), ""),
    }
    by_address = cluster.settings(namenode=f'"127.0.0.1:{cluster.hdfs.port}"', **with_token)
    found[cluster.settings(**with_token)] = "write namenode as the token names it"
    sound, also_sound, *said = looked([cluster.settings(), by_address, *found], tmp_path)
    assert (sound, also_sound) == ("", "")
    for expected, line in zip(found.values(), said, strict=True):
        assert expected in line, (expected, line)
        assert line.startswith("artifact store")
        assert "\n" not in line


@pytest.mark.full
@pytest.mark.budget(START_S + 60)
def test_a_server_waits_for_its_cluster_and_starts_by_itself(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.hdfs.stop("namenode")
    chosen = settings.check(cluster.settings(), "settings.yaml")
    log = tmp_path / "server.log"
    began_s = time.monotonic()

    def later() -> None:
        while not log.exists() or "refuses the connection" not in log.read_text():
            time.sleep(0.2)
            if time.monotonic() > began_s + 60:
                return
        cluster.hdfs.start("namenode")

    late = threading.Thread(target=later, daemon=True)
    late.start()
    with local.ours(tmp_path, 1, stores=chosen):
        text = log.read_text()
    late.join()
    assert "the stores can be reached again" in text


@pytest.mark.full
@pytest.mark.budget(240)
@pytest.mark.verifies("HDFS: settings with two namenodes follow the one that is active (natively)")
def test_a_pair_of_namenodes_is_used_as_its_settings_say(tmp_path: Path) -> None:
    with hadoop_ha.running(tmp_path / "pair") as pair:
        nodes = ", ".join(f'"localhost:{port}"' for port in pair.ports.values())
        text = (
            "schema_version: 1\nartifact_store:\n  hdfs:\n"
            f"    nameservice: {hadoop_ha.NAMESERVICE}\n    namenodes: [{nodes}]\n"
            f"    path: /mlflow\n    user: {getpass.getuser()}\n"
        )

        def said() -> str:
            place = tmp_path / str(time.monotonic_ns())
            place.mkdir()
            return looked([text], place)[0]

        assert said() == ""
        pair.fail_over("nn1", "nn2")
        pair.stop("nn1")
        assert said() == ""
        pair.stop("nn2")
        for port in pair.ports.values():
            assert f"localhost port {port} refuses the connection" in said()
