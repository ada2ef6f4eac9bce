package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/process"
)

const cgroups = "/sys/fs/cgroup"

// makeCgroups gives the node a cgroup of its own in each hierarchy: with a common one each kubelet would kill the other's
// pods as orphans.
func (n Node) makeCgroups() error {
	hierarchies, err := filepath.Glob(cgroups + "/*/cgroup.procs")
	if err != nil {
		return err
	}
	if len(hierarchies) == 0 {
		return fmt.Errorf("no cgroup v1 hierarchies are mounted under %s: this cluster knows only that layout", cgroups)
	}
	for _, procs := range hierarchies {
		controller := filepath.Dir(procs)
		if filepath.Base(controller) == "unified" {
			continue
		}
		if err := mkdir(filepath.Join(controller, n.Name())); err != nil {
			return err
		}
		if slices.Contains([]string{"memory", "pids", "freezer", "cpu", "cpuacct"}, filepath.Base(controller)) {
			if err := mkdir(filepath.Join(controller, n.Name(), "daemon")); err != nil {
				return err
			}
		}
	}
	return inheritCpuset(n.Name())
}

// inheritCpuset: a new cpuset is empty, and no process may enter it.
func inheritCpuset(name string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(cgroups, "cpuset", file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(cgroups, "cpuset", name, file), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// freeze stops or resumes every process of the node at once.
func (n Node) freeze(state string) error {
	return os.WriteFile(filepath.Join(cgroups, "freezer", n.Name(), "freezer.state"), []byte(state), 0o644)
}

// frozen tells whether the node's processes are stopped.
func (n Node) frozen() bool {
	state, err := os.ReadFile(filepath.Join(cgroups, "freezer", n.Name(), "freezer.state"))
	return err == nil && strings.TrimSpace(string(state)) != "THAWED"
}

// processes lists the processes in the node's cgroups, its pods' included.
func (n Node) processes() []string {
	var pids []string
	_ = filepath.WalkDir(filepath.Join(cgroups, "pids", n.Name()), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "cgroup.procs" {
			content, _ := os.ReadFile(path)
			pids = append(pids, strings.Fields(string(content))...)
		}
		return nil
	})
	return pids
}

func (n Node) awaitNoProcesses() error {
	err := process.Await(20*time.Second, func() (bool, error) { return len(n.processes()) == 0, nil })
	if err != nil {
		return fmt.Errorf("processes %s of %s outlived it", strings.Join(n.processes(), " "), n.Name())
	}
	return nil
}

// removeCgroups removes the node's cgroups, which must be empty.
func (n Node) removeCgroups() error {
	for _, top := range cgroupsOf(n.Name()) {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Reverse(dirs)
		for _, dir := range dirs {
			// The kernel may hold an emptied cgroup for a moment.
			remove := func() (bool, error) { err := os.Remove(dir); return err == nil || os.IsNotExist(err), nil }
			if err := process.Await(5*time.Second, remove); err != nil {
				return fmt.Errorf("removing the cgroup %s: %w", dir, os.Remove(dir))
			}
		}
	}
	return nil
}

func cgroupsOf(name string) []string {
	found, _ := filepath.Glob(filepath.Join(cgroups, "*", name))
	return found
}

// CgroupLeftovers lists cgroups of nodes that still exist.
func CgroupLeftovers() []string {
	var left []string
	for node := 1; node <= layout.MaxNodes; node++ {
		for _, dir := range cgroupsOf(layout.NodeName(node)) {
			left = append(left, "cgroup "+dir)
		}
	}
	return left
}
