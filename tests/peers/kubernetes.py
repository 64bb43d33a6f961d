"""A Kubernetes cluster of one node that runs pods: etcd, the control plane, a kubelet, containerd.

All are the real programs. They listen on loopback, their data are below one folder, and pods must
use the host's network. Needs root; cgroups of version 1 do as well as of version 2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_image.server.local import free_port
from tests.peers import kubernetes_programs, process
from tests.peers.authority import Authority
from tests.peers.docker_engine import contained
from tests.peers.kubernetes_settings import (
    CONTAINERD,
    ENCRYPTION,
    KUBELET,
    LOOPBACK_NETWORK,
    kubeconfig,
)

#: Its name is where the API server finds its kubelet, for `kubectl logs`.
NODE = "localhost"
HOST_PROGRAMS = ("etcd", "containerd", "runc", "unshare")
#: Where Debian and Ubuntu have the plugins of containernetworking-plugins.
NETWORK_PLUGINS = Path("/usr/lib/cni")
#: Keeps the cluster small.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
)


@dataclass(frozen=True)
class Cluster:
    """kubeconfig: of the administrator. etcd: the port of the database."""

    folder: Path
    programs: Path
    kubeconfig: Path
    etcd: int

    def kubectl(self, *words: object, text: str = "", check: bool = True) -> str:
        """Run `kubectl` as the administrator; returns what it prints."""
        done = subprocess.run(
            [self.programs / "kubectl", *map(str, words)],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *words: object) -> Any:
        return json.loads(self.kubectl("get", *words, "--output", "json"))

    @property
    def database(self) -> bytes:
        """Everything that etcd holds, as it holds it."""
        words = ("get", "", "--prefix", "--print-value-only")
        return subprocess.run(
            ["etcdctl", f"--endpoints=http://127.0.0.1:{self.etcd}", *words],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            check=True,
        ).stdout


def lacks() -> str:
    """What keeps this host from running it, or ""; builds the programs if need be."""
    if os.geteuid() != 0:
        return "a kubelet needs root"
    missing = [one for one in (*HOST_PROGRAMS, "etcdctl") if not shutil.which(one)]
    if not NETWORK_PLUGINS.is_dir():
        missing.append("containernetworking-plugins")
    if missing:
        return f"{', '.join(missing)} not installed"
    return (
        "" if kubernetes_programs.built() else "Kubernetes cannot be built (no Go, or no modules)"
    )


@contextmanager
def running(folder: Path, registry: str, sandbox_image: str) -> Iterator[Cluster]:
    """Run a cluster whose node pulls from a registry (host and port, plain HTTP).

    sandbox_image: in that registry; it holds the namespaces of a pod.
    """
    programs = kubernetes_programs.built()
    assert programs is not None
    authority = Authority(folder / "authority", "Kubernetes of a test")
    with ExitStack() as stack:
        etcd = stack.enter_context(_etcd(folder))
        url = stack.enter_context(_api_server(folder, programs, authority, etcd))
        admin = _kubeconfig(folder, url, authority, "admin", "system:masters")
        cluster = Cluster(folder, programs, admin, etcd)
        stack.enter_context(_controllers(folder, programs, authority, admin))
        stack.enter_context(_scheduler(folder, programs, admin))
        node = _kubeconfig(folder, url, authority, f"system:node:{NODE}", "system:nodes")
        stack.enter_context(_node(cluster, authority, node, registry, sandbox_image))
        yield cluster


def _kubeconfig(folder: Path, url: str, authority: Authority, name: str, group: str) -> Path:
    issued = authority.issue_client(name, group)
    file = folder / f"{issued.certificate.stem}.kubeconfig"
    file.write_text(kubeconfig(url, authority.certificate, issued))
    file.chmod(0o600)
    return file


@contextmanager
def _etcd(folder: Path) -> Iterator[int]:
    port, peers = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    words = (
        *("etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
        *("--listen-client-urls", url, "--advertise-client-urls", url),
        *("--listen-peer-urls", f"http://127.0.0.1:{peers}"),
        *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peers}"),
        *("--initial-cluster", f"default=http://127.0.0.1:{peers}"),
    )
    with process.running(words, port, folder / "etcd.log"):
        yield port


@contextmanager
def _api_server(folder: Path, programs: Path, authority: Authority, etcd: int) -> Iterator[str]:
    """Secrets are encrypted in etcd, as a cluster for other people should have it."""
    port = free_port()
    served = authority.issue("127.0.0.1", "localhost")
    accounts = authority.issue("service-accounts")
    encryption = folder / "encryption.yaml"
    encryption.write_text(ENCRYPTION)
    kubelet = authority.issue_client("kube-apiserver", "system:masters")
    words = (
        programs / "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        *("--bind-address=127.0.0.1", f"--secure-port={port}", "--endpoint-reconciler-type=none"),
        f"--client-ca-file={authority.certificate}",
        *(f"--tls-cert-file={served.certificate}", f"--tls-private-key-file={served.key}"),
        f"--kubelet-client-certificate={kubelet.certificate}",
        f"--kubelet-client-key={kubelet.key}",
        f"--kubelet-certificate-authority={authority.certificate}",
        "--service-account-issuer=https://localhost",
        f"--service-account-key-file={accounts.certificate}",
        f"--service-account-signing-key-file={accounts.key}",
        *("--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC"),
        f"--encryption-provider-config={encryption}",
        "--enable-admission-plugins=NodeRestriction",
    )
    log = folder / "kube-apiserver.log"
    with process.running(words, port, log) as api_server:
        url = f"https://127.0.0.1:{port}"
        admin = _kubeconfig(folder, url, authority, "admin", "system:masters")
        ready = (programs / "kubectl", "--kubeconfig", admin, "get", "--raw", "/readyz")
        process.until(lambda: _succeeds(*ready), api_server, log)
        yield url


@contextmanager
def _controllers(folder: Path, programs: Path, authority: Authority, admin: Path) -> Iterator[None]:
    port = free_port()
    words = (
        programs / "kube-controller-manager",
        *(f"--kubeconfig={admin}", f"--secure-port={port}", "--bind-address=127.0.0.1"),
        *(f"--controllers={','.join(CONTROLLERS)}", "--leader-elect=false"),
        f"--root-ca-file={authority.certificate}",
    )
    with process.running(words, port, folder / "kube-controller-manager.log"):
        yield


@contextmanager
def _scheduler(folder: Path, programs: Path, admin: Path) -> Iterator[None]:
    port = free_port()
    words = (
        programs / "kube-scheduler",
        *(f"--kubeconfig={admin}", f"--secure-port={port}", "--bind-address=127.0.0.1"),
        "--leader-elect=false",
    )
    with process.running(words, port, folder / "kube-scheduler.log"):
        yield


@contextmanager
def _node(
    cluster: Cluster, authority: Authority, node: Path, registry: str, sandbox_image: str
) -> Iterator[None]:
    """A kubelet and its containerd, in namespaces that end with them."""
    folder = cluster.folder
    served = authority.issue(NODE)
    network = folder / "cni" / "10-loopback.conflist"
    network.parent.mkdir()
    network.write_text(LOOPBACK_NETWORK)
    values = {
        "FOLDER": str(folder),
        "SANDBOX_IMAGE": sandbox_image,
        "REGISTRY": registry,
        "NETWORK": str(network.parent),
        "PLUGINS": str(NETWORK_PLUGINS),
        "CLIENT_CA": str(authority.certificate),
        "CERTIFICATE": str(served.certificate),
        "KEY": str(served.key),
        "'PORT'": str(free_port()),
    }
    containerd = folder / "containerd.toml"
    containerd.write_text(_filled(CONTAINERD, values))
    (folder / "kubelet.yaml").write_text(_filled(KUBELET, values))
    words = ("sh", "-c", NODE_PROGRAMS, "sh", containerd, cluster.programs, node, folder)
    log = folder / "node.log"
    with contained(words, log) as kubelet:
        process.until(lambda: _is_ready(cluster), kubelet, log)
        yield


#: $1: of containerd. $2: the programs. $3: the kubelet's kubeconfig. $4: the folder.
NODE_PROGRAMS = f"""
containerd --config "$1" > "$4/containerd.log" 2>&1 &
until [ -S "$4/containerd.sock" ]; do sleep 0.1; done
exec "$2/kubelet" --config "$4/kubelet.yaml" --kubeconfig "$3" --root-dir "$4/kubelet" \
  --cert-dir "$4/kubelet-certificates" --hostname-override {NODE}
"""


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _is_ready(cluster: Cluster) -> bool:
    shown = cluster.kubectl(
        *("get", "node", NODE, "--output"),
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}{.spec.taints[*].key}',
        check=False,
    )
    accounts = cluster.kubectl("get", "serviceaccount", "default", check=False)
    return shown == "True" and accounts.startswith("NAME")


def _succeeds(*words: object) -> bool:
    done = subprocess.run(list(map(str, words)), capture_output=True, check=False)
    return done.returncode == 0
