"""HDFS of Hadoop 3.4: a NameNode and a DataNode, with Kerberos and encryption, or without.

The jars of `hadoop-client-minicluster` have both, and need few others; Maven fetches them once.
Sources: Hadoop's "Secure Mode" and hdfs-default.xml. A JDK and Maven are needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from filelock import FileLock

from mlflow_image.paths import cache
from mlflow_image.server.local import free_port
from tests.peers import process
from tests.peers.kdc import REALM, Kdc

#: The name of both in a VM's /etc/hosts, and in the principals.
HOST = "hdfs.peers.test"
JARS = (
    "org.apache.hadoop:hadoop-client-api:3.4.1",
    "org.apache.hadoop:hadoop-client-runtime:3.4.1",
    "org.apache.hadoop:hadoop-client-minicluster:3.4.1",
    "org.slf4j:slf4j-api:1.7.36",
    "org.slf4j:slf4j-simple:1.7.36",
    "commons-logging:commons-logging:1.2",
    "ch.qos.reload4j:reload4j:1.2.25",
    "org.bouncycastle:bcprov-jdk18on:1.78.1",
)
NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
ADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"
SHELL = "org.apache.hadoop.fs.FsShell"
FETCH_S = 600
START_S = 120.0


@dataclass
class Hdfs:
    """A running file system. kdc: None for `simple` authentication. host: of its principals."""

    folder: Path
    port: int
    kdc: Kdc | None
    host: str
    parts: dict[str, ExitStack] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"hdfs://{self.host}:{self.port}"

    def start(self, name: str) -> None:
        """Start the namenode or the datanode."""
        stack = ExitStack()
        program = {"namenode": NAMENODE, "datanode": DATANODE}[name]
        port = self.port if name == "namenode" else 0
        log = self.folder / f"{name}.log"
        words = self.java(program)
        if port:
            stack.enter_context(process.running(words, port, log, start_s=START_S))
        else:
            stack.enter_context(process.daemon(words, log))
        self.parts[name] = stack

    def stop(self, name: str) -> None:
        self.parts.pop(name).close()

    def java(self, program: str, *words: str) -> list[str]:
        options = ["-Xmx300m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        if self.kdc:
            options.append(f"-Djava.security.krb5.conf={self.kdc.configuration}")
        options.append(f"-Djdk.net.hosts.file={self.folder / 'hosts'}")
        path = ":".join(map(str, (self.folder / "conf", *jars())))
        return ["java", *options, "-cp", path, program, *words]

    def admin(self, *words: str) -> str:
        """Run `hdfs dfsadmin` as the superuser."""
        return self.run(ADMIN, *words)

    def fs(self, *words: str) -> str:
        """Run `hdfs dfs` as the superuser."""
        return self.run(SHELL, *words)

    def run(self, program: str, *words: str) -> str:
        """Run a Java program as the superuser; returns what it printed."""
        line = self.java(program, *words)
        variables = {}
        if self.kdc:
            ticket = self.folder / "admin.cc"
            keytab = self.kdc.folder / f"nn-{self.host}.keytab"
            variables = {**self.kdc.variables, "KRB5CCNAME": str(ticket)}
            words_of_kinit = ["kinit", "-k", "-t", str(keytab), f"nn/{self.host}"]
            subprocess.run(words_of_kinit, env={**os.environ, **variables}, check=True)
        done = subprocess.run(
            line, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_until_writable(self, timeout_s: float = 120) -> None:
        """Until the namenode has left safe mode and knows a datanode."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            report = self.admin("-report")
            if "Live datanodes (1)" in report and "Safe mode is ON" not in report:
                return
            assert time.monotonic() < deadline_s, report
            time.sleep(1)


def missing() -> str:
    """What this host lacks for it; "" when all is there."""
    return ", ".join(name for name in ("java", "mvn") if not shutil.which(name))


def jars() -> list[Path]:
    """The jars, fetched if need be."""
    key = hashlib.sha256(" ".join(JARS).encode()).hexdigest()[:12]
    place = cache() / "peers" / f"hadoop-{key}"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        if not (place / "complete").exists():
            for jar in JARS:
                words = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={jar}"]
                subprocess.run(
                    [*words, f"-DoutputDirectory={place}"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=FETCH_S,
                    check=True,
                )
            (place / "complete").touch()
    return sorted(place.glob("*.jar"))


@contextmanager
def running(folder: Path, kdc: Kdc | None = None, host: str = "localhost") -> Iterator[Hdfs]:
    """Run a new file system. kdc: where its principals are made. host: HOST for clients in a VM."""
    (folder / "conf").mkdir(parents=True)
    (folder / "hosts").write_text(f"127.0.0.1 {host} localhost {socket.gethostname()}\n")
    made = Hdfs(folder, free_port(), kdc, host)
    for name, values in (("core", _core(made)), ("hdfs", _hdfs(made))):
        (folder / "conf" / f"{name}-site.xml").write_text(as_xml(values))
    words = made.java(NAMENODE, "-format", "-nonInteractive")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    try:
        made.start("namenode")
        made.start("datanode")
        made.wait_until_writable()
        yield made
    finally:
        for name in reversed(list(made.parts)):
            made.stop(name)


def _core(made: Hdfs) -> Mapping[str, str]:
    found = {"fs.defaultFS": made.url}
    if made.kdc:
        found |= {
            "hadoop.security.authentication": "kerberos",
            "hadoop.security.authorization": "true",
            "hadoop.rpc.protection": "privacy",
            "hadoop.security.auth_to_local": f"RULE:[2:$1/$2@$0](nn/.*@{REALM})s/.*/root/\nDEFAULT",
        }
    return found


def _hdfs(made: Hdfs) -> Mapping[str, str]:
    folder, host = made.folder, made.host
    found = {
        "dfs.namenode.name.dir": str(folder / "name"),
        "dfs.datanode.data.dir": str(folder / "data"),
        "dfs.namenode.rpc-bind-host": "127.0.0.1",
        "dfs.namenode.http-address": "127.0.0.1:0",
        "dfs.datanode.address": "127.0.0.1:0",
        "dfs.datanode.http.address": "127.0.0.1:0",
        "dfs.datanode.ipc.address": "127.0.0.1:0",
        "dfs.replication": "1",
        "dfs.namenode.safemode.extension": "3000",
    }
    if kdc := made.kdc:
        found |= {
            "dfs.datanode.hostname": host,
            "dfs.block.access.token.enable": "true",
            "dfs.data.transfer.protection": "privacy",
            # Without it, data are encrypted with 3DES, at a few MB/s.
            "dfs.encrypt.data.transfer.cipher.suites": "AES/CTR/NoPadding",
            "ignore.secure.ports.for.testing": "true",
            "dfs.http.policy": "HTTP_ONLY",
        }
        for part, name in (("namenode", "nn"), ("datanode", "dn")):
            found[f"dfs.{part}.kerberos.principal"] = f"{name}/{host}@{REALM}"
            found[f"dfs.{part}.keytab.file"] = str(kdc.keytab(f"{name}/{host}"))
        keytab = kdc.keytab(f"HTTP/{host}")
        found["dfs.web.authentication.kerberos.principal"] = f"HTTP/{host}@{REALM}"
        found["dfs.web.authentication.kerberos.keytab"] = str(keytab)
    return found


def as_xml(values: Mapping[str, str]) -> str:
    """A file of Hadoop's configuration."""
    lines = (
        f"<property><name>{name}</name><value>{escape(value)}</value></property>"
        for name, value in values.items()
    )
    return "<configuration>\n" + "\n".join(lines) + "\n</configuration>\n"
