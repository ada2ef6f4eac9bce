// Package binaries builds the programs of the cluster from their sources in the Go module proxy, and keeps them. Which
// ones, in which versions, is said by the modules under build/.
package binaries

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/host"
)

// SourceVariable names the folder of this module when the program is run through its wrapper script.
const SourceVariable = "GRID_CLUSTER_SOURCE"

// program is one Go module under build/ and the binary that it gives.
type program struct {
	name    string
	pkg     string
	ldflags string
	links   []string // further names by which the binary is called
}

const kubernetes = "v1.35.4"

// programs are in the order of the time they take: the longest first.
var programs = []program{
	{name: "kube", pkg: ".", ldflags: versionFlags(kubernetes), links: []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "volume-provisioner",
	}},
	{name: "traefik", pkg: "github.com/traefik/traefik/v3/cmd/traefik"},
	{name: "coredns", pkg: "."},
	{name: "helm", pkg: "helm.sh/helm/v3/cmd/helm"},
	{name: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw"},
	{name: "pause", pkg: "."},
	{name: "echo", pkg: "."},
}

// versionFlags: without them the components call themselves v0.0.0-master.
func versionFlags(version string) string {
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	var flags strings.Builder
	for _, module := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&flags, " -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
			module, version, module, parts[0], module, parts[1])
	}
	return flags.String()
}

// Build returns the folder with the named program and its links, building it if it isn't there yet. What takes long is
// told to progress.
func Build(name string, progress io.Writer) (string, error) {
	for _, program := range programs {
		if program.name == name {
			return program.build(progress)
		}
	}
	return "", fmt.Errorf("there is no program %q; there are: %s", name, strings.Join(Names(), ", "))
}

// Names lists all programs.
func Names() []string {
	var names []string
	for _, program := range programs {
		names = append(names, program.name)
	}
	return names
}

func (p program) build(progress io.Writer) (string, error) {
	source, err := Source()
	if err != nil {
		return "", err
	}
	module := filepath.Join(source, "build", p.name)
	version, err := host.Output("go", "env", "GOVERSION")
	if err != nil {
		return "", fmt.Errorf("building %s needs Go: %w", p.name, err)
	}
	key, err := cache.Key([]string{p.pkg, p.ldflags, strings.Join(p.links, " "), version, runtime.GOARCH}, module)
	if err != nil {
		return "", err
	}
	return cache.Ensure("programs", p.name+"-"+key, func(dir string) error {
		fmt.Fprintf(progress, "building %s from source\n", p.name)
		return p.compile(module, dir)
	})
}

func (p program) compile(module, dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-mod=readonly", "-ldflags", "-s -w"+p.ldflags, "-o", filepath.Join(dir, p.name), p.pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if _, err := host.Capture(cmd); err != nil {
		return fmt.Errorf("building %s: %w", p.name, err)
	}
	for _, link := range p.links {
		if err := os.Symlink(p.name, filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	return nil
}

// Source is the folder of this module's sources.
func Source() (string, error) {
	if source := os.Getenv(SourceVariable); source != "" {
		return source, nil
	}
	working, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := working; ; dir = filepath.Dir(dir) {
		for _, candidate := range []string{dir, filepath.Join(dir, "e2e", "cluster")} {
			if _, err := os.Stat(filepath.Join(candidate, "build", "kube", "go.mod")); err == nil {
				return candidate, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("the sources of the cluster's programs were not found above %s: set %s to the folder e2e/cluster", working, SourceVariable)
		}
	}
}
