"""The settings of the programs in tests/peers/kubernetes.py; names in capitals are replaced."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.peers.authority import Issued

#: Pods use the host's network; the kubelet wants a network that is configured all the same.
LOOPBACK_NETWORK = json.dumps(
    {"cniVersion": "0.4.0", "name": "loopback", "plugins": [{"type": "loopback"}]}
)

ENCRYPTION = f"""
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {{keys: [{{name: one, secret: {base64.b64encode(bytes(range(32))).decode()}}}]}}
  - identity: {{}}
"""

CONTAINERD = """
version = 2
root = "FOLDER/containerd"
state = "FOLDER/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "FOLDER/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "SANDBOX_IMAGE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "PLUGINS"
  conf_dir = "NETWORK"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."REGISTRY"]
  endpoint = ["http://REGISTRY"]
"""

#: Without limits on the host's disk and memory: the node is a part of somebody's machine.
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://FOLDER/containerd.sock
address: 127.0.0.1
port: 'PORT'
readOnlyPort: 0
healthzPort: 0
tlsCertFile: CERTIFICATE
tlsPrivateKeyFile: KEY
authentication:
  anonymous: {enabled: false}
  x509: {clientCAFile: CLIENT_CA}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: "0%"
  nodefs.available: "0%"
  nodefs.inodesFree: "0%"
  imagefs.available: "0%"
  imagefs.inodesFree: "0%"
podLogsDir: FOLDER/pod-logs
volumePluginDir: FOLDER/volume-plugins
syncFrequency: 5s
nodeStatusUpdateFrequency: 5s
"""


def kubeconfig(url: str, ca: Path, issued: Issued) -> str:
    """How a client reaches the API server, and as whom."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": url, "certificate-authority": str(ca)}}
            ],
            "users": [
                {
                    "name": "test",
                    "user": {
                        "client-certificate": str(issued.certificate),
                        "client-key": str(issued.key),
                    },
                }
            ],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
    )
