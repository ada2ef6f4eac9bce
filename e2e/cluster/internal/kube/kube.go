// Package kube calls kubectl and helm on the cluster.
package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/layout"
)

// Client calls the programs kubectl and helm as the cluster's administrator.
type Client struct {
	Dir     layout.Dir
	Kubectl string
	Helm    string
}

// Environment is what both programs need: theirs and nothing of the user's own configuration.
func (c Client) Environment() []string {
	dir := filepath.Join(string(c.Dir), "client")
	return []string{
		"KUBECONFIG=" + c.Dir.Kubeconfig(),
		"KUBECACHEDIR=" + filepath.Join(dir, "kube"),
		"HELM_CACHE_HOME=" + filepath.Join(dir, "helm-cache"),
		"HELM_CONFIG_HOME=" + filepath.Join(dir, "helm-config"),
		"HELM_DATA_HOME=" + filepath.Join(dir, "helm-data"),
	}
}

// Run runs kubectl and returns its standard output.
func (c Client) Run(args ...string) (string, error) {
	return host.Capture(c.Command(c.Kubectl, args...))
}

// Apply applies a manifest.
func (c Client) Apply(manifest string) error {
	cmd := c.Command(c.Kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	_, err := host.Capture(cmd)
	return err
}

// Command prepares one of the programs.
func (c Client) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), c.Environment()...)
	return cmd
}
