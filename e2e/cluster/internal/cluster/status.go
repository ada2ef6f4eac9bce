package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"grid.build/e2e/cluster/internal/controlplane"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/network"
	"grid.build/e2e/cluster/internal/node"
)

// Status tells how each part is; its second result is whether all are well.
func (c *Cluster) Status() (string, bool) {
	var text strings.Builder
	well := true
	row := func(name, state string, good bool) {
		fmt.Fprintf(&text, "%-24s %s\n", name, state)
		well = well && good
	}
	for _, part := range controlplane.Parts {
		pid := c.Dir.Part(part).Pid()
		if pid == 0 {
			row(part, "ENDED: "+c.Dir.Part(part).Complaint(), false)
		} else {
			row(part, fmt.Sprintf("runs, process %d", pid), true)
		}
	}
	for _, node := range c.Nodes {
		state := node.State()
		row(node.Name(), state, state == "running")
	}
	if pods, err := c.Client.Run("get", "nodes,pods", "--all-namespaces", "--output=wide"); err != nil {
		row("kubectl", err.Error(), false)
	} else {
		text.WriteString("\n" + pods)
	}
	fmt.Fprintf(&text, "\nKUBECONFIG=%s\ningress    %s (every name under %s, asked of %s)\n",
		c.Dir.Kubeconfig(), layout.Ingress, layout.IngressDomain, layout.ControlPlane)
	return text.String(), well
}

// Node finds a node by its number or name.
func (c *Cluster) Node(name string) (node.Node, error) {
	for _, candidate := range c.Nodes {
		if name == candidate.Name() || name == fmt.Sprint(candidate.Index) {
			return candidate, nil
		}
	}
	return node.Node{}, fmt.Errorf("the cluster has no node %q: it has %d", name, len(c.Nodes))
}

// KillNode is a power failure of a node.
func (c *Cluster) KillNode(victim node.Node) error {
	if err := victim.Kill(); err != nil {
		return err
	}
	return c.routeServices()
}

// StartNode switches a node on again and waits until it is ready.
func (c *Cluster) StartNode(victim node.Node) error {
	if err := victim.Start(); err != nil {
		return err
	}
	if err := c.routeServices(); err != nil {
		return err
	}
	return c.AwaitNode(victim)
}

// CutNode pulls the node's network cable.
func (c *Cluster) CutNode(victim node.Node) error {
	if err := network.Cut(victim.Index); err != nil {
		return err
	}
	return c.routeServices()
}

// HealNode plugs it in again.
func (c *Cluster) HealNode(victim node.Node) error {
	if err := network.Heal(victim.Index); err != nil {
		return err
	}
	return c.routeServices()
}

// routeServices sends the host's calls of Services through the first node that runs; without any there is nothing to choose.
func (c *Cluster) routeServices() error {
	for _, candidate := range c.Nodes {
		if candidate.State() == "running" {
			return network.RouteServices(candidate.Index)
		}
	}
	return nil
}

// LogParts names everything that has a log.
func (c *Cluster) LogParts() []string {
	files, _ := filepath.Glob(filepath.Join(c.Dir.Logs(), "*.log"))
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".log"))
	}
	sort.Strings(names)
	return names
}

// LogFile finds the log of a part.
func (c *Cluster) LogFile(part string) (string, error) {
	if names := c.LogParts(); !slices.Contains(names, part) {
		return "", fmt.Errorf("there is no log of %q; there are: %s", part, strings.Join(names, ", "))
	}
	return filepath.Join(c.Dir.Logs(), part+".log"), nil
}

// Restart ends a part of the control plane by SIGKILL and starts it again.
func (c *Cluster) Restart(part string) error {
	if !slices.Contains(controlplane.Parts, part) {
		return fmt.Errorf("%q is no part of the control plane; those are: %s", part, strings.Join(controlplane.Parts, ", "))
	}
	if err := c.Dir.Part(part).Stop(0); err != nil {
		return err
	}
	return c.Control.Start(part)
}
