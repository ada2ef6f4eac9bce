// Package layout knows every address and every file name of a cluster, so that each is written down once.
package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/process"
)

// Addresses of the cluster. They are fixed: a machine carries one cluster at a time.
const (
	ControlPlane   = "172.30.0.254"
	Host           = "172.30.0.253"
	NodeNetwork    = "172.30.0.0/24"
	PodNetwork     = "10.244.0.0/16"
	ServiceNetwork = "10.96.0.0/16"
	APIService     = "10.96.0.1"
	DNSService     = "10.96.0.10"
	Ingress        = "10.96.0.80"
	APIServer      = "https://" + ControlPlane + ":6443"
	ClusterDomain  = "cluster.local"
	IngressDomain  = "grid.test"
	MaxNodes       = 2
)

// NodeName is the Kubernetes name of a node, which counts from 1.
func NodeName(node int) string { return fmt.Sprintf("node%d", node) }

// NodeAddress is the node's address in the node network.
func NodeAddress(node int) string { return fmt.Sprintf("172.30.0.%d", node) }

// NodePods is the range of the node's pods.
func NodePods(node int) string { return fmt.Sprintf("10.244.%d.0/24", node) }

// Dir is the folder that holds all state of one cluster.
type Dir string

// Default is the folder of a cluster for which none was named: that of the cluster that runs, else one under the cache.
func Default() Dir {
	if current, err := os.ReadFile(pointer()); err == nil {
		return Dir(strings.TrimSpace(string(current)))
	}
	return Dir(filepath.Join(cache.Root(), "state"))
}

// SetCurrent remembers this folder as that of the cluster that runs.
func (d Dir) SetCurrent() error {
	if err := os.MkdirAll(cache.Root(), 0o755); err != nil {
		return err
	}
	return os.WriteFile(pointer(), []byte(string(d)+"\n"), 0o644)
}

// Forget undoes SetCurrent.
func (d Dir) Forget() error {
	if Default() != d {
		return nil
	}
	if err := os.Remove(pointer()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func pointer() string { return filepath.Join(cache.Root(), "current") }

func (d Dir) join(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// Pki holds certificates and keys.
func (d Dir) Pki() string { return d.join("pki") }

// Config holds the configuration files of the control plane's parts.
func (d Dir) Config() string { return d.join("config") }

// Logs holds a log for each part.
func (d Dir) Logs() string { return d.join("logs") }

// Etcd is the database of the API server.
func (d Dir) Etcd() string { return d.join("etcd") }

// Volumes holds the volumes that claims are bound to.
func (d Dir) Volumes() string { return d.join("volumes") }

// Node holds all that a node would keep on its disk.
func (d Dir) Node(node int) string { return d.join(fmt.Sprintf("n%d", node)) }

// Kubeconfig is the administrator's.
func (d Dir) Kubeconfig() string { return d.join("kubeconfig") }

// Env is a file of NAME=value lines for scripts.
func (d Dir) Env() string { return d.join("env") }

// Record is where up notes what down must undo.
func (d Dir) Record() string { return d.join("cluster.json") }

// Part is the long-running process of that name.
func (d Dir) Part(name string) process.Part {
	return process.Part{Name: name, RunDir: d.join("run"), LogDir: d.Logs()}
}

// ContainerdSocket is the node's, as the host sees it.
func (d Dir) ContainerdSocket(node int) string {
	return filepath.Join(d.Node(node), "run/containerd/containerd.sock")
}
