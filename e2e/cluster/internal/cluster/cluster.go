// Package cluster puts the parts together: it brings a whole cluster up, says how it is, and takes it down again. What each
// part is, the other packages know.
package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"grid.build/e2e/cluster/internal/binaries"
	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/controlplane"
	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/kube"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/node"
)

// Cluster is one that runs, or is to run, in a folder.
type Cluster struct {
	Dir     layout.Dir
	Nodes   []node.Node
	Control controlplane.ControlPlane
	Client  kube.Client
	traces  host.Traces
}

// record is what a later call needs to know of a running cluster.
type record struct {
	Nodes   int         `json:"nodes"`
	Kube    string      `json:"kube"`
	CoreDNS string      `json:"coredns"`
	Helm    string      `json:"helm"`
	Traces  host.Traces `json:"traces"`
}

// Open finds the cluster that runs in a folder.
func Open(dir layout.Dir) (*Cluster, error) {
	content, err := os.ReadFile(dir.Record())
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("no cluster runs in %s: start one with `gridcluster up`", dir)
	}
	if err != nil {
		return nil, err
	}
	var noted record
	if err := json.Unmarshal(content, &noted); err != nil {
		return nil, fmt.Errorf("reading %s: %w", dir.Record(), err)
	}
	return assemble(dir, noted), nil
}

// create notes a new cluster, before anything of it exists, so that down can undo whatever up has done.
func create(dir layout.Dir, nodes int, progress io.Writer) (*Cluster, error) {
	noted := record{Nodes: nodes}
	for program, target := range map[string]*string{"kube": &noted.Kube, "coredns": &noted.CoreDNS, "helm": &noted.Helm} {
		built, err := binaries.Build(program, progress)
		if err != nil {
			return nil, err
		}
		*target = built
	}
	traces, err := host.Prepare(node.BindTargets)
	if err != nil {
		return nil, err
	}
	noted.Traces = traces
	content, err := json.MarshalIndent(noted, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(dir.Record(), append(content, '\n'), 0o644); err != nil {
		return nil, err
	}
	return assemble(dir, noted), dir.SetCurrent()
}

func assemble(dir layout.Dir, noted record) *Cluster {
	cluster := &Cluster{
		Dir:     dir,
		Control: controlplane.ControlPlane{Dir: dir, Kube: noted.Kube, CoreDNS: noted.CoreDNS},
		Client:  kube.Client{Dir: dir, Kubectl: filepath.Join(noted.Kube, "kubectl"), Helm: filepath.Join(noted.Helm, "helm")},
		traces:  noted.Traces,
	}
	for index := 1; index <= noted.Nodes; index++ {
		cluster.Nodes = append(cluster.Nodes, node.Node{Index: index, Count: noted.Nodes, Dir: dir, Programs: noted.Kube})
	}
	return cluster
}

// Exclusively runs something while no other call changes the machine's cluster.
func Exclusively(change func() error) error {
	if err := os.MkdirAll(cache.Root(), 0o755); err != nil {
		return err
	}
	unlock, err := cache.Lock(filepath.Join(cache.Root(), "cluster.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	return change()
}
