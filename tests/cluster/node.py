"""What a one-node cluster is made of: the command and the configuration of each of its programs. Nothing runs here."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import cgroups
from tests.cluster.control_plane import AUDIT_POLICY, apiserver_command, etcd_command

HERE = Path(__file__).parent
NODE = "node-1"
NODE_ADDRESS = "10.99.0.1"
NODE_NETWORK = f"{NODE_ADDRESS}/24"
POD_NETWORK = "10.244.0.0/16"
API_PORT = 6443
API_SERVICE = "10.96.0.1"
PAUSE_IMAGE = "registry-status.local/pause:1"
LEASE_SECONDS = 8  # the kubelet renews each quarter of it: a lost node is noticed after GRACE_SECONDS, not 40 s
GRACE_SECONDS = 12


@dataclass(frozen=True)
class Node:
    """Where everything of the cluster is."""

    state: Path
    program: Callable[[str], Path]

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig for programs inside; users get another one."""
        return self.state / "node.kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        return self.state / "containerd" / "containerd.sock"

    @property
    def in_memory(self) -> list[Path]:
        """Folders for memory file systems: unpacked images are ten thousands of files, which cost a disk half a minute."""
        return [self.state / "containerd" / "root", self.state / "etcd"]

    def command(self, name: str) -> list[str]:
        """Return the command line of one program."""
        make: Callable[[], list[str]] = getattr(self, f"_{name.replace('-', '_')}")
        return make()

    def write_configuration(self) -> None:
        """Write every file that the programs read."""
        for folder in (*self.in_memory, *(self.state / name for name in ("cni", "kubelet", "pod-logs"))):
            folder.mkdir(parents=True)
        (self.state / "audit-policy.yaml").write_text(AUDIT_POLICY)
        (self.state / "resolv.conf").write_text(f"nameserver {NODE_ADDRESS}\n")
        (self.state / "cni" / "10-bridge.conflist").write_text(json.dumps(self._network()))
        (self.state / "containerd.toml").write_text(self._containerd_configuration())
        (self.state / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet_configuration()))

    # --- commands ------------------------------------------------------------------------------

    def _etcd(self) -> list[str]:
        return etcd_command(self.program("etcd"), self.state / "etcd", 2379, 2380)

    def _kube_apiserver(self) -> list[str]:
        return apiserver_command(
            self.program("kube-apiserver"),
            self.state / "pki",
            self.state / "tokens.csv",
            etcd_servers="http://127.0.0.1:2379",
            bind_address="0.0.0.0",
            advertise_address=NODE_ADDRESS,
            secure_port=str(API_PORT),
            endpoint_reconciler_type="master-count",
            kubelet_preferred_address_types="InternalIP",  # else `kubectl logs` looks up the node's name
            audit_policy_file=f"{self.state}/audit-policy.yaml",
            audit_log_path=f"{self.state}/log/audit.log",
        )

    def _kube_controller_manager(self) -> list[str]:
        return [
            str(self.program("kube-controller-manager")),
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.state}/pki/service-account.key",
            f"--root-ca-file={self.state}/pki/ca.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            f"--flex-volume-plugin-dir={self.state}/kubelet/plugins",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={GRACE_SECONDS}s",
        ]

    def _kube_scheduler(self) -> list[str]:
        return [str(self.program("kube-scheduler")), f"--kubeconfig={self.kubeconfig}", "--leader-elect=false"]

    def _containerd(self) -> list[str]:
        return [str(self.program("containerd")), "--config", f"{self.state}/containerd.toml"]

    def _kubelet(self) -> list[str]:
        return [
            str(self.program("kubelet")),
            f"--config={self.state}/kubelet.yaml",
            f"--kubeconfig={self.kubeconfig}",
            f"--root-dir={self.state}/kubelet",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_ADDRESS}",
        ]

    def _kube_proxy(self) -> list[str]:
        # The conntrack settings are the whole machine's, not the namespace's: 0 leaves them alone.
        return [
            str(self.program("kube-proxy")),
            f"--kubeconfig={self.kubeconfig}",
            f"--hostname-override={NODE}",
            f"--cluster-cidr={POD_NETWORK}",
            "--proxy-mode=nftables",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]

    def _dns(self) -> list[str]:
        token = (self.state / "tokens.csv").read_text().partition(",")[0]
        url = f"https://{NODE_ADDRESS}:{API_PORT}"
        return [sys.executable, str(HERE / "dns.py"), NODE_ADDRESS, url, f"{self.state}/pki/ca.crt", token]

    # --- configuration -------------------------------------------------------------------------

    def _network(self) -> dict[str, Any]:
        ranges = {"ranges": [[{"subnet": POD_NETWORK}]], "routes": [{"dst": "0.0.0.0/0"}]}
        ipam = {"type": "host-local", "dataDir": f"{self.state}/cni-addresses", **ranges}
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": ipam}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "1.0.0", "name": "bridge", "plugins": [bridge, ports]}

    def _containerd_configuration(self) -> str:
        """Keep everything under our folder, and do without the power to lower an OOM score."""
        root = self.state / "containerd"
        return f"""\
version = 3
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.image-verifier.v1.bindir"]
[grpc]
  address = "{self.containerd_socket}"
[plugins.'io.containerd.internal.v1.opt']
  path = "{root}/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{self.state}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""

    def _kubelet_configuration(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{self.containerd_socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.NAME}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{self.state}/resolv.conf",
            "podLogsDir": f"{self.state}/pod-logs",
            "volumePluginDir": f"{self.state}/kubelet/plugins",
            "nodeLeaseDurationSeconds": LEASE_SECONDS,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            # The defaults (5 a second) make tests that start many pods wait for nothing.
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
        }
