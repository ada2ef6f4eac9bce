package node

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/pki"
)

// PauseImage holds the namespaces of each pod.
const PauseImage = "localhost/pause:1"

// writeConfig writes the configuration of the node's three daemons.
func (n Node) writeConfig() error {
	dir := n.configDir()
	if err := os.MkdirAll(filepath.Join(dir, "cni"), 0o755); err != nil {
		return err
	}
	memory, err := memoryKiB()
	if err != nil {
		return err
	}
	files := map[string]string{
		"containerd.toml":        n.containerdConfig(),
		"cni/10-bridge.conflist": n.cniConfig(),
		"kubelet.yaml":           n.kubeletConfig(runtime.NumCPU(), memory),
		"kube-proxy.yaml":        n.proxyConfig(),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for identity, file := range map[string]string{n.Name(): "kubelet.kubeconfig", "kube-proxy": "kube-proxy.kubeconfig"} {
		if err := pki.WriteKubeconfig(n.Dir.Pki(), identity, layout.APIServer, filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return nil
}

func (n Node) configDir() string { return filepath.Join(n.Dir.Node(n.Index), "config") }

// containerdConfig: without CAP_SYS_RESOURCE nothing may lower its oom_score_adj, and a sandbox that tries dies, hence
// restrict_oom_score_adj. The opt path keeps containerd from making /opt/containerd.
func (n Node) containerdConfig() string {
	return fmt.Sprintf(`version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
`, filepath.Join(n.Dir.Node(n.Index), "opt"), PauseImage, filepath.Join(n.configDir(), "cni"))
}

// cniConfig: no ipMasq, so that a pod's address is seen as it is everywhere in the cluster and on the host.
func (n Node) cniConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, layout.NodePods(n.Index))
}

// kubeletConfig: each kubelet sees the whole machine, so the share of the other nodes is reserved.
func (n Node) kubeletConfig(cpus int, memoryKiB uint64) string {
	others := n.Count - 1
	reservedCPU := cpus * 1000 * others / n.Count
	reservedMemory := memoryKiB / uint64(n.Count) * uint64(others)
	certificate := filepath.Join(n.Dir.Pki(), n.Name())
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %q}
authorization: {mode: Webhook}
tlsCertFile: %q
tlsPrivateKeyFile: %q
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /%s
oomScoreAdj: 0
resolvConf: ""
clusterDNS: [%s]
clusterDomain: %s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%}
kubeReserved: {cpu: %dm, memory: %dKi}
volumePluginDir: %q
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 2s
syncFrequency: 10s
serializeImagePulls: false
`, filepath.Join(n.Dir.Pki(), "ca.crt"), certificate+".crt", certificate+".key", n.Name(),
		layout.DNSService, layout.ClusterDomain, reservedCPU, reservedMemory,
		filepath.Join(n.Dir.Node(n.Index), "volumeplugins"))
}

func (n Node) proxyConfig() string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q}
mode: iptables
hostnameOverride: %s
clusterCIDR: %s
oomScoreAdj: 0
conntrack: {maxPerCore: 0}
`, filepath.Join(n.configDir(), "kube-proxy.kubeconfig"), n.Name(), layout.PodNetwork)
}

func memoryKiB() (uint64, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "MemTotal:" {
			return strconv.ParseUint(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no MemTotal")
}
