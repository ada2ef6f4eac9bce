package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sysctls are the settings of the whole machine that kubelet changes.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// Traces is what the machine was like before a cluster started on it.
type Traces struct {
	Sysctls map[string]string `json:"sysctls"`
	// MadeDirs are folders that did not exist.
	MadeDirs []string `json:"madeDirs"`
	// MadeFiles are files that did not exist.
	MadeFiles []string `json:"madeFiles"`
}

// otherFiles are what daemons of a node leave on the machine.
var otherFiles = []string{"/run/xtables.lock"}

// Prepare notes the machine's settings and makes the folders that nodes mount over.
func Prepare(dirs []string) (Traces, error) {
	traces := Traces{Sysctls: make(map[string]string)}
	for _, name := range sysctls {
		value, err := os.ReadFile("/proc/sys/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return traces, err
		}
		traces.Sysctls[name] = strings.TrimSpace(string(value))
	}
	for _, dir := range append(slices.Clone(dirs), "/run/netns") {
		for missing := dir; ; missing = filepath.Dir(missing) {
			if _, err := os.Stat(missing); err == nil {
				break
			}
			traces.MadeDirs = append(traces.MadeDirs, missing)
		}
	}
	for _, file := range otherFiles {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			traces.MadeFiles = append(traces.MadeFiles, file)
		}
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return traces, err
		}
	}
	return traces, nil
}

// Undo gives the machine its settings back, and removes what was made on it, as far as it is empty.
func (t Traces) Undo() error {
	var failures []error
	for name, value := range t.Sysctls {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			failures = append(failures, err)
		}
	}
	if slices.Contains(t.MadeDirs, "/run/netns") {
		if entries, err := os.ReadDir("/run/netns"); err == nil && len(entries) == 0 {
			// Making a namespace mounts this folder over itself, once.
			_ = Run("umount", "/run/netns")
		}
	}
	for _, file := range t.MadeFiles {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	for _, dir := range byDepth(t.MadeDirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failures = append(failures, fmt.Errorf("removing what the cluster made: %w", err))
		}
	}
	return errors.Join(failures...)
}

// byDepth puts folders after what is in them.
func byDepth(dirs []string) []string {
	sorted := slices.Clone(dirs)
	slices.SortFunc(sorted, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return slices.Compact(sorted)
}

// Leftovers lists the traces that are still there.
func (t Traces) Leftovers() []string {
	var left []string
	for name, value := range t.Sysctls {
		if now, err := os.ReadFile("/proc/sys/" + name); err == nil && strings.TrimSpace(string(now)) != value {
			left = append(left, fmt.Sprintf("setting %s: %s instead of %s", name, strings.TrimSpace(string(now)), value))
		}
	}
	for _, path := range append(slices.Clone(t.MadeDirs), t.MadeFiles...) {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	return left
}
