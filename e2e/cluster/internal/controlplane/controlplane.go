// Package controlplane runs etcd, the API server, the controllers, the scheduler, the DNS server and the volume provisioner as
// processes in the control plane's network namespace. None of them is a pod, so no node's death takes them along.
package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/network"
	"grid.build/e2e/cluster/internal/pki"
	"grid.build/e2e/cluster/internal/process"
)

// ControlPlane runs in the cluster's folder with programs from the given folders.
type ControlPlane struct {
	Dir     layout.Dir
	Kube    string
	CoreDNS string
}

// Parts names the processes in the order in which they start.
var Parts = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "volume-provisioner", "coredns"}

var errEnded = errors.New("its process has ended")

// Configure writes what the parts read.
func (c ControlPlane) Configure() error {
	for _, dir := range []string{c.Dir.Config(), c.Dir.Volumes()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for identity, file := range map[string]string{
		"controller-manager": c.config("controller-manager.kubeconfig"),
		"scheduler":          c.config("scheduler.kubeconfig"),
		"admin":              c.Dir.Kubeconfig(),
	} {
		if err := pki.WriteKubeconfig(c.Dir.Pki(), identity, layout.APIServer, file); err != nil {
			return err
		}
	}
	return os.WriteFile(c.config("Corefile"), []byte(corefile(c.Dir.Kubeconfig())), 0o644)
}

// Start starts the named part, unless it runs.
func (c ControlPlane) Start(part string) error {
	command, err := c.command(part)
	if err != nil {
		return err
	}
	return c.Dir.Part(part).Start(append(network.Enter(network.ControlPlane), command...)...)
}

// AwaitAPI waits until the API server says that it is ready.
func (c ControlPlane) AwaitAPI() error {
	client, err := c.client()
	if err != nil {
		return err
	}
	err = process.Await(60*time.Second, func() (bool, error) {
		if c.Dir.Part("kube-apiserver").Pid() == 0 {
			return false, process.Final(errEnded)
		}
		response, err := client.Get(layout.APIServer + "/readyz")
		if err != nil {
			return false, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", response.Status, body)
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("the API server does not get ready: %w\nkube-apiserver: %s\netcd: %s", err,
			c.Dir.Part("kube-apiserver").Complaint(), c.Dir.Part("etcd").Complaint())
	}
	return nil
}

// AwaitDNS waits until the DNS server knows the cluster's Services.
func (c ControlPlane) AwaitDNS() error {
	client := &http.Client{Timeout: time.Second}
	err := process.Await(30*time.Second, func() (bool, error) {
		if c.Dir.Part("coredns").Pid() == 0 {
			return false, process.Final(errEnded)
		}
		response, err := client.Get("http://" + layout.ControlPlane + ":8181/ready")
		if err != nil {
			return false, err
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("the DNS server does not get ready: %w\n%s", err, c.Dir.Part("coredns").Complaint())
	}
	return nil
}

// Stop ends all parts, the last started first.
func (c ControlPlane) Stop() error {
	for i := len(Parts) - 1; i >= 0; i-- {
		// Nothing of it is kept, so there is nothing to end gracefully.
		if err := c.Dir.Part(Parts[i]).Stop(0); err != nil {
			return err
		}
	}
	return nil
}

func (c ControlPlane) config(name string) string { return filepath.Join(c.Dir.Config(), name) }

func (c ControlPlane) client() (*http.Client, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(c.Dir.Pki(), "admin.crt"), filepath.Join(c.Dir.Pki(), "admin.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(c.Dir.Pki(), "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
	}}, nil
}
