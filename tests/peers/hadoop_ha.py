"""Two namenodes of one HDFS, of which one is active, with a datanode; without Kerberos.

Source: Hadoop's "HDFS High Availability Using NFS": both share a folder of edits.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_image.server.local import free_port
from tests.peers import hadoop, process

NAMESERVICE = "peers"
NODES = ("nn1", "nn2")
ADMIN = "org.apache.hadoop.hdfs.tools.DFSHAAdmin"
#: Of a block: an upload asks the namenode for many.
BLOCK_BYTES = 8 << 20


@dataclass
class Pair:
    """Both namenodes. ports: of NODES."""

    hdfs: hadoop.Hdfs
    ports: dict[str, int]
    parts: dict[str, ExitStack] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"hdfs://{NAMESERVICE}"

    @property
    def conf(self) -> Path:
        return self.hdfs.folder / "conf"

    def start(self, node: str) -> None:
        """Start a namenode, which is on standby at first."""
        words = self.hdfs.java(hadoop.NAMENODE, f"-Ddfs.ha.namenode.id={node}")
        log = self.hdfs.folder / f"{node}.log"
        self.parts[node] = ExitStack()
        started = process.running(words, self.ports[node], log, start_s=hadoop.START_S)
        self.parts[node].enter_context(started)

    def stop(self, node: str) -> None:
        self.parts.pop(node).close()

    def admin(self, *words: str) -> str:
        """Run `hdfs haadmin`."""
        return self.hdfs.run(ADMIN, *words)

    def fail_over(self, old: str, new: str) -> None:
        """Put one on standby, and make the other active."""
        self.admin("-transitionToStandby", old)
        self.admin("-transitionToActive", new)


@contextmanager
def running(folder: Path) -> Iterator[Pair]:
    """Run both, the first one active, and a datanode."""
    (folder / "conf").mkdir(parents=True)
    (folder / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    ports = {node: free_port() for node in NODES}
    made = Pair(hadoop.Hdfs(folder, ports["nn1"], None, "localhost"), ports)
    (folder / "conf" / "core-site.xml").write_text(hadoop.as_xml({"fs.defaultFS": made.url}))
    (folder / "conf" / "hdfs-site.xml").write_text(hadoop.as_xml(_hdfs(folder, ports)))
    try:
        _prepare(made, "nn1", "-format", "-nonInteractive")
        made.start("nn1")
        _prepare(made, "nn2", "-bootstrapStandby", "-nonInteractive")
        made.start("nn2")
        made.admin("-transitionToActive", "nn1")
        made.hdfs.start("datanode")
        made.hdfs.wait_until_writable()
        yield made
    finally:
        for node in list(made.parts):
            made.stop(node)
        for part in list(made.hdfs.parts):
            made.hdfs.stop(part)


def _prepare(made: Pair, node: str, *words: str) -> None:
    line = made.hdfs.java(hadoop.NAMENODE, f"-Ddfs.ha.namenode.id={node}", *words)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _hdfs(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    found = {
        "dfs.nameservices": NAMESERVICE,
        f"dfs.ha.namenodes.{NAMESERVICE}": ",".join(NODES),
        f"dfs.client.failover.proxy.provider.{NAMESERVICE}": (
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
        ),
        "dfs.namenode.shared.edits.dir": f"file://{folder}/shared",
        "dfs.ha.automatic-failover.enabled": "false",
        "dfs.ha.fencing.methods": "shell(/bin/true)",
        "dfs.ha.tail-edits.period": "1",
        "dfs.datanode.data.dir": str(folder / "data"),
        "dfs.datanode.address": "127.0.0.1:0",
        "dfs.datanode.http.address": "127.0.0.1:0",
        "dfs.datanode.ipc.address": "127.0.0.1:0",
        "dfs.replication": "1",
        "dfs.blocksize": str(BLOCK_BYTES),
        "dfs.namenode.safemode.extension": "3000",
    }
    for node, port in ports.items():
        of = f"{NAMESERVICE}.{node}"
        found[f"dfs.namenode.rpc-address.{of}"] = f"localhost:{port}"
        found[f"dfs.namenode.rpc-bind-host.{of}"] = "127.0.0.1"
        found[f"dfs.namenode.http-address.{of}"] = f"127.0.0.1:{free_port()}"
        found[f"dfs.namenode.name.dir.{of}"] = str(folder / node)
    return found
