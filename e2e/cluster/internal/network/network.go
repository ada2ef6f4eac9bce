// Package network makes the cluster's network: a namespace with a bridge for the control plane (the LAN), one for each
// node, and a cable from the host into the bridge, by which the host reaches nodes, pods and Services.
package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/layout"
)

const (
	// ControlPlane is the namespace with the bridge and the control plane.
	ControlPlane = "cp"
	bridge       = "br0"
	hostLink     = "gridhost0"
	netnsFolder  = "/run/netns"
)

// Node is the namespace of a node.
func Node(node int) string { return fmt.Sprintf("n%d", node) }

// Enter is the start of a command line that runs in a namespace. `ip netns exec` is no substitute: it remounts /sys and so
// hides the cgroup mounts.
func Enter(namespace string) []string {
	return []string{"nsenter", "--net=" + filepath.Join(netnsFolder, namespace)}
}

// Make makes the network for that many nodes; what exists is left.
func Make(nodes int) error {
	if err := makeLan(); err != nil {
		return fmt.Errorf("making the control plane's network: %w", err)
	}
	for node := 1; node <= nodes; node++ {
		if err := attachNode(node); err != nil {
			return fmt.Errorf("making the network of %s: %w", layout.NodeName(node), err)
		}
	}
	for node := 1; node <= nodes; node++ {
		if err := connectPods(node, nodes); err != nil {
			return fmt.Errorf("making routes for the pods of %s: %w", layout.NodeName(node), err)
		}
	}
	return RouteServices(1)
}

func makeLan() error {
	if Exists(ControlPlane) {
		return nil
	}
	steps := [][]string{
		{"netns", "add", ControlPlane},
		{"-n", ControlPlane, "link", "set", "lo", "up"},
		{"-n", ControlPlane, "link", "add", bridge, "type", "bridge"},
		{"-n", ControlPlane, "addr", "add", layout.ControlPlane + "/24", "dev", bridge},
		{"-n", ControlPlane, "link", "set", bridge, "up"},
		{"link", "add", hostLink, "type", "veth", "peer", "name", "host", "netns", ControlPlane},
		{"-n", ControlPlane, "link", "set", "host", "master", bridge, "up"},
		{"addr", "add", layout.Host + "/24", "dev", hostLink},
		{"link", "set", hostLink, "up"},
	}
	if err := ip(steps); err != nil {
		return err
	}
	return sysctl(ControlPlane, "net.ipv4.ip_forward", "1")
}

func attachNode(node int) error {
	name := Node(node)
	if Exists(name) {
		return nil
	}
	steps := [][]string{
		{"netns", "add", name},
		{"-n", name, "link", "set", "lo", "up"},
		{"-n", ControlPlane, "link", "add", port(node), "type", "veth", "peer", "name", "eth0", "netns", name},
		{"-n", ControlPlane, "link", "set", port(node), "master", bridge, "up"},
		{"-n", name, "addr", "add", layout.NodeAddress(node) + "/24", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
		{"-n", name, "route", "add", "default", "via", layout.ControlPlane},
	}
	if err := ip(steps); err != nil {
		return err
	}
	return sysctl(name, "net.ipv4.ip_forward", "1")
}

// connectPods tells everyone else that the node's pods are behind the node.
func connectPods(node, nodes int) error {
	route := []string{"route", "replace", layout.NodePods(node), "via", layout.NodeAddress(node)}
	steps := [][]string{route, append([]string{"-n", ControlPlane}, route...)}
	for other := 1; other <= nodes; other++ {
		if other != node {
			steps = append(steps, append([]string{"-n", Node(other)}, route...))
		}
	}
	return ip(steps)
}

// RouteServices makes host and control plane reach Services through that node, which must be alive.
func RouteServices(node int) error {
	route := []string{"route", "replace", layout.ServiceNetwork, "via", layout.NodeAddress(node)}
	return ip([][]string{route, append([]string{"-n", ControlPlane}, route...)})
}

// Cut pulls a node's cable.
func Cut(node int) error {
	return host.Run("ip", "-n", ControlPlane, "link", "set", port(node), "down")
}

// Heal plugs it in again.
func Heal(node int) error { return host.Run("ip", "-n", ControlPlane, "link", "set", port(node), "up") }

// IsCut tells whether a node's cable is pulled.
func IsCut(node int) bool {
	shown, err := host.Output("ip", "-n", ControlPlane, "-oneline", "link", "show", port(node), "up")
	return err == nil && shown == ""
}

// Remove takes the network away; what does not exist is no error.
func Remove() error {
	for node := 1; node <= layout.MaxNodes; node++ {
		if Exists(Node(node)) {
			if err := host.Run("ip", "netns", "del", Node(node)); err != nil {
				return err
			}
		}
	}
	// A namespace that still holds a socket would keep the cable alive for a while.
	if linkExists(hostLink) {
		if err := host.Run("ip", "link", "del", hostLink); err != nil {
			return err
		}
	}
	if Exists(ControlPlane) {
		return host.Run("ip", "netns", "del", ControlPlane)
	}
	return nil
}

// Leftovers lists what Remove should have taken away.
func Leftovers() []string {
	var left []string
	for _, name := range []string{ControlPlane, Node(1), Node(2)} {
		if Exists(name) {
			left = append(left, "network namespace "+name)
		}
	}
	if linkExists(hostLink) {
		left = append(left, "network link "+hostLink)
	}
	return left
}

// Exists tells whether a namespace exists.
func Exists(namespace string) bool {
	_, err := os.Stat(filepath.Join(netnsFolder, namespace))
	return err == nil
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

func port(node int) string { return fmt.Sprintf("p%d", node) }

func ip(steps [][]string) error {
	for _, step := range steps {
		if err := host.Run("ip", step...); err != nil {
			return err
		}
	}
	return nil
}

func sysctl(namespace, name, value string) error {
	command := append(Enter(namespace), "sh", "-c", fmt.Sprintf("echo %s > /proc/sys/%s", value, strings.ReplaceAll(name, ".", "/")))
	return host.Run(command[0], command[1:]...)
}
