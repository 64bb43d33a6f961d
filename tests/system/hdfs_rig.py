"""HDFS with Kerberos, privacy and block tokens, and clients of the plugin, for native tests."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlflow_image.server import local
from tests.peers import hadoop, hdfs_client, kdc

#: Where artifacts go; it belongs to the user, its parent to the superuser.
HOME = "/mlflow"
USER = "mlflow"
#: Variables of a client; None: without this one.
Variables = Mapping[str, str | None]


@dataclass(frozen=True)
class Rig:
    """A realm and a file system. keytab: of USER."""

    folder: Path
    kdc: kdc.Kdc
    hdfs: hadoop.Hdfs
    keytab: Path
    clients: ExitStack

    @property
    def url(self) -> str:
        return f"{self.hdfs.url}{HOME}"

    @property
    def conf(self) -> Path:
        return self.hdfs.folder / "conf"

    def variables(self, name: str = "client") -> dict[str, str]:
        """Those of a client that renews its tickets from the keytab. name: of its tickets."""
        return {
            "KRB5_CONFIG": str(self.kdc.configuration),
            "KRB5CCNAME": f"FILE:{self.folder}/{name}.cc",
            "KRB5_CLIENT_KTNAME": str(self.keytab),
            "MLFLOW_KERBEROS_USER": USER,
            "HADOOP_CONF_DIR": str(self.conf),
        }

    def client(
        self, name: str, variables: Mapping[str, str] | None = None, uri: str = ""
    ) -> hdfs_client.Client:
        """A new process; its errors are in NAME.log."""
        python = local.environment() / "bin" / "python"
        given = {**self.variables(name), **(variables or {})}
        log = self.folder / f"{name}.log"
        made = hdfs_client.running(python, uri or self.url, given, log)
        return self.clients.enter_context(made)

    def superuser(self) -> hdfs_client.Client:
        principal = f"nn/{self.hdfs.host}"
        keytab = self.kdc.folder / f"nn-{self.hdfs.host}.keytab"
        given = {"KRB5_CLIENT_KTNAME": str(keytab), "MLFLOW_KERBEROS_USER": principal}
        return self.client("superuser", given, self.hdfs.url + "/")


@contextmanager
def running(folder: Path) -> Iterator[Rig]:
    """Run both, with HOME for artifacts. Skips the test when this host lacks something."""
    if lacking := ", ".join(filter(None, (kdc.missing(), hadoop.missing()))):
        pytest.skip(f"missing: {lacking}")
    with (
        kdc.running(folder / "kdc") as realm,
        hadoop.running(folder / "hdfs", realm) as hdfs,
        ExitStack() as clients,
    ):
        made = Rig(folder, realm, hdfs, realm.keytab(USER), clients)
        made.superuser()("make_folder", HOME, USER)
        yield made


def big_file(path: Path, size_mib: int) -> Path:
    """A file that does not compress."""
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(1 << 20))
    return path


def broken(rig: Rig) -> Mapping[str, Variables]:
    """What is wrong with a client -> its variables."""
    folder, realm, conf = rig.folder, rig.kdc, rig.kdc.configuration.read_text()

    def krb5(name: str, old: str, new: str) -> str:
        (folder / name).write_text(conf.replace(old, new))
        return str(folder / name)

    def keytab(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return str(folder / name)

    stranger = realm.keytab("stranger")
    gone = realm.keytab("gone")
    realm.admin("delprinc -force gone")
    old = keytab("old", realm.keytab("twice").read_bytes())
    realm.keytab("twice")
    foreign = rig.keytab.read_bytes().replace(b"PEERS.TEST", b"OTHER.TEST")
    simple = folder / "simple"
    simple.mkdir()
    for name in ("core-site.xml", "hdfs-site.xml"):
        text = (rig.conf / name).read_text()
        (simple / name).write_text(text.replace(">kerberos<", ">simple<"))
    return {
        "no ticket": {"KRB5_CLIENT_KTNAME": None, "MLFLOW_KERBEROS_USER": None},
        "no ticket of the principal": {"KRB5_CLIENT_KTNAME": None},
        "no keytab there": {"KRB5_CLIENT_KTNAME": str(folder / "none")},
        "not a keytab": {"KRB5_CLIENT_KTNAME": keytab("bad", b"root:x:0:0:")},
        "another's keytab": {"KRB5_CLIENT_KTNAME": str(stranger)},
        "unknown principal": {"KRB5_CLIENT_KTNAME": str(gone), "MLFLOW_KERBEROS_USER": "gone"},
        "old keys": {"KRB5_CLIENT_KTNAME": old, "MLFLOW_KERBEROS_USER": "twice"},
        "no KDC": {"KRB5_CONFIG": krb5("far", f":{realm.port}", ":1")},
        "realm without KDC": {
            "KRB5_CLIENT_KTNAME": keytab("foreign", foreign),
            "MLFLOW_KERBEROS_USER": "mlflow@OTHER.TEST",
        },
        "wrong realm": {"KRB5_CONFIG": krb5("realm", "localhost = PEERS", "localhost = OTHER")},
        "no Kerberos in the client": {"HADOOP_CONF_DIR": str(simple)},
    }
