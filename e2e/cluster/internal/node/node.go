// Package node runs nodes of the cluster: each is one process tree with a containerd, a kubelet and a kube-proxy in
// namespaces and cgroups of its own, so that killing its first process is a power failure. It makes no network
// (package network does) and knows no pods.
package node

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/network"
	"grid.build/e2e/cluster/internal/process"
)

//go:embed init.sh
var initScript []byte

//go:embed launch.sh
var launchScript []byte

// BindTargets are the folders of the machine over which a node mounts its own; they must exist, and stay empty.
var BindTargets = []string{
	"/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd", "/var/log/pods", "/var/log/containers", "/run/containerd",
}

// Node is one of Count nodes.
type Node struct {
	Index, Count int
	Dir          layout.Dir
	Programs     string // the folder with kubelet and kube-proxy
}

// Name is the node's Kubernetes name.
func (n Node) Name() string { return layout.NodeName(n.Index) }

// Part is the node's process tree.
func (n Node) Part() process.Part { return n.Dir.Part(n.Name()) }

// Start switches the node on, unless it runs. Its disk is as it was when the node last ended.
func (n Node) Start() error {
	if n.Part().Pid() != 0 {
		return nil
	}
	if err := n.clear(); err != nil {
		return err
	}
	if err := n.makeCgroups(); err != nil {
		return fmt.Errorf("making the cgroups of %s: %w", n.Name(), err)
	}
	if err := n.writeConfig(); err != nil {
		return fmt.Errorf("writing the configuration of %s: %w", n.Name(), err)
	}
	dir := n.Dir.Node(n.Index)
	initFile, launchFile := filepath.Join(n.configDir(), "init.sh"), filepath.Join(n.configDir(), "launch.sh")
	for file, text := range map[string][]byte{initFile: initScript, launchFile: launchScript} {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return n.Part().Start("bash", launchFile, n.Name(), "/run/netns/"+network.Node(n.Index),
		initFile, dir, n.Name(), layout.NodeAddress(n.Index), n.Dir.Logs(), n.Programs)
}

// clear removes what the node's last life left in the kernel. A machine that was switched off has no cgroups; with those of many
// pods left, however the node ended, the kubelet first asks containerd for containers of each, seconds apiece.
func (n Node) clear() error {
	if err := n.awaitNoProcesses(); err != nil {
		return err
	}
	return n.removeCgroups()
}

// AwaitContainerd waits until the node takes images.
func (n Node) AwaitContainerd() error {
	err := process.Await(30*time.Second, func() (bool, error) {
		if n.Part().Pid() == 0 {
			return false, process.Final(errors.New("the node has ended"))
		}
		err := n.ctr("version")
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("containerd of %s does not answer: %w\n%s\n%s", n.Name(), err,
			process.LogTail(n.LogFile("containerd"), 12), n.Part().Complaint())
	}
	return nil
}

// LogFile is the log of one of the node's daemons: containerd, kubelet or kube-proxy.
func (n Node) LogFile(daemon string) string {
	return filepath.Join(n.Dir.Logs(), n.Name()+"-"+daemon+".log")
}

// Import puts the images of an OCI archive into the node's store.
func (n Node) Import(archive string) error {
	return n.ctr("--namespace", "k8s.io", "images", "import", "--snapshotter", "overlayfs", archive)
}

func (n Node) ctr(args ...string) error {
	return host.Run("ctr", append([]string{"--address", n.Dir.ContainerdSocket(n.Index)}, args...)...)
}

// Kill is a power failure: every process of the node ends at once, its disk stays.
func (n Node) Kill() error {
	if n.frozen() {
		if err := n.Thaw(); err != nil {
			return err
		}
	}
	if err := n.Part().Stop(0); err != nil {
		return err
	}
	return n.awaitNoProcesses()
}

// Freeze makes the node hang: its processes stop, its network stays up.
func (n Node) Freeze() error { return n.freeze("FROZEN") }

// Thaw ends what Freeze began.
func (n Node) Thaw() error { return n.freeze("THAWED") }

// Remove takes away what a killed node leaves outside its folder.
func (n Node) Remove() error { return n.removeCgroups() }

// State tells in one word how the node is.
func (n Node) State() string {
	switch {
	case n.Part().Pid() == 0:
		return "off"
	case n.frozen():
		return "frozen"
	case network.IsCut(n.Index):
		return "cut off"
	}
	return "running"
}
