package main

import (
	"fmt"

	"grid.build/e2e/cluster/internal/cluster"
	"grid.build/e2e/cluster/internal/node"
)

func nodeCommand(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("expected kill, start, cut, heal, freeze or thaw, and a node")
	}
	running, err := open(nil)
	if err != nil {
		return err
	}
	victim, err := running.Node(args[1])
	if err != nil {
		return err
	}
	faults := map[string]func(node.Node) error{
		"kill":   running.KillNode,
		"start":  running.StartNode,
		"cut":    running.CutNode,
		"heal":   running.HealNode,
		"freeze": node.Node.Freeze,
		"thaw":   node.Node.Thaw,
	}
	fault, known := faults[args[0]]
	if !known {
		return fmt.Errorf("unknown fault %q: expected kill, start, cut, heal, freeze or thaw", args[0])
	}
	return cluster.Exclusively(func() error { return fault(victim) })
}
