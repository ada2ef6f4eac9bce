package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/network"
	"grid.build/e2e/cluster/internal/node"
	"grid.build/e2e/cluster/internal/process"
)

// Down ends the cluster and removes everything of it but its logs, which go to keepLogs unless that is empty. Where something can't be
// removed, it goes on with the rest; in the end it looks for itself, and what is left is an error.
func (c *Cluster) Down(keepLogs string) error {
	failures := c.remove()
	if keepLogs != "" {
		failures = append(failures, moveLogs(c.Dir.Logs(), keepLogs))
	}
	if left := c.Leftovers(); len(left) > 0 {
		failures = append(failures, fmt.Errorf("the cluster left behind:\n  %s", strings.Join(left, "\n  ")))
	}
	if err := errors.Join(failures...); err != nil {
		return err // the record stays, so that down can be tried again
	}
	if err := os.RemoveAll(string(c.Dir)); err != nil {
		return err
	}
	return c.Dir.Forget()
}

func (c *Cluster) remove() []error {
	var failures []error
	for _, node := range c.Nodes {
		failures = append(failures, node.Kill())
	}
	failures = append(failures, c.Control.Stop(), network.Remove())
	for _, node := range c.Nodes {
		failures = append(failures, node.Remove())
	}
	return append(failures, c.traces.Undo())
}

func moveLogs(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Leftovers lists what a cluster that is down must not have left on the machine.
func (c *Cluster) Leftovers() []string {
	left := append(network.Leftovers(), node.CgroupLeftovers()...)
	left = append(left, c.traces.Leftovers()...)
	left = append(left, mountsBelow(c.Dir)...)
	return append(left, processesIn(c.Dir)...)
}

func mountsBelow(dir layout.Dir) []string {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	return mountsIn(string(content), string(dir), node.BindTargets)
}

// mountsIn lists the mount points of a mountinfo table that are below a folder or at one of the targets.
func mountsIn(mountinfo, dir string, targets []string) []string {
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		for _, place := range append([]string{dir}, targets...) {
			if fields[4] == place || strings.HasPrefix(fields[4], place+"/") {
				found = append(found, "mount "+fields[4])
				break
			}
		}
	}
	return found
}

// processesIn lists processes whose command line names the cluster's folder, but for this one and those that called it.
func processesIn(dir layout.Dir) []string {
	callers := process.Ancestors(os.Getpid())
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if callers[entry.Name()] {
			continue
		}
		content, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if command := strings.ReplaceAll(string(content), "\x00", " "); err == nil && strings.Contains(command, string(dir)+"/") {
			found = append(found, fmt.Sprintf("process %s: %s", entry.Name(), command))
		}
	}
	return found
}
