package controlplane

import (
	"fmt"
	"path/filepath"

	"grid.build/e2e/cluster/internal/layout"
)

// command is the command line of a part.
func (c ControlPlane) command(part string) ([]string, error) {
	switch part {
	case "etcd":
		return c.etcd(), nil
	case "kube-apiserver":
		return c.apiserver(), nil
	case "kube-controller-manager":
		return c.controllerManager(), nil
	case "kube-scheduler":
		kubeconfig := c.config("scheduler.kubeconfig")
		return []string{
			filepath.Join(c.Kube, part), "--kubeconfig", kubeconfig, "--authentication-kubeconfig", kubeconfig,
			"--authorization-kubeconfig", kubeconfig, "--leader-elect=false",
		}, nil
	case "volume-provisioner":
		return []string{filepath.Join(c.Kube, part), "--kubeconfig", c.Dir.Kubeconfig(), "--root", c.Dir.Volumes()}, nil
	case "coredns":
		return []string{filepath.Join(c.CoreDNS, part), "-conf", c.config("Corefile")}, nil
	}
	return nil, fmt.Errorf("the control plane has no part %q", part)
}

// etcd without fsync: what it holds need not survive the machine.
func (c ControlPlane) etcd() []string {
	return []string{
		filepath.Join(c.Kube, "etcd"), "--data-dir", c.Dir.Etcd(), "--unsafe-no-fsync", "--log-level", "warn",
	}
}

func (c ControlPlane) apiserver() []string {
	pki := func(file string) string { return filepath.Join(c.Dir.Pki(), file) }
	return []string{
		filepath.Join(c.Kube, "kube-apiserver"),
		"--etcd-servers", "http://127.0.0.1:2379",
		"--service-cluster-ip-range", layout.ServiceNetwork,
		"--advertise-address", layout.ControlPlane,
		"--authorization-mode", "Node,RBAC",
		"--enable-admission-plugins", "NodeRestriction",
		"--client-ca-file", pki("ca.crt"),
		"--tls-cert-file", pki("apiserver.crt"),
		"--tls-private-key-file", pki("apiserver.key"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", pki("sa.pub"),
		"--service-account-signing-key-file", pki("sa.key"),
		"--kubelet-client-certificate", pki("apiserver-kubelet.crt"),
		"--kubelet-client-key", pki("apiserver-kubelet.key"),
		"--kubelet-certificate-authority", pki("ca.crt"),
		"--kubelet-preferred-address-types", "InternalIP",
		"--allow-privileged",
	}
}

// controllerManager with timings that make a dead node known within 9 seconds instead of 47.
func (c ControlPlane) controllerManager() []string {
	kubeconfig := c.config("controller-manager.kubeconfig")
	return []string{
		filepath.Join(c.Kube, "kube-controller-manager"),
		"--kubeconfig", kubeconfig,
		"--authentication-kubeconfig", kubeconfig,
		"--authorization-kubeconfig", kubeconfig,
		"--use-service-account-credentials",
		"--service-account-private-key-file", filepath.Join(c.Dir.Pki(), "sa.key"),
		"--root-ca-file", filepath.Join(c.Dir.Pki(), "ca.crt"),
		"--leader-elect=false",
		"--node-monitor-grace-period", "8s",
		"--node-monitor-period", "1s",
		"--node-eviction-rate", "1",
	}
}

// corefile answers for Services, and with the ingress for every name under the ingress domain. There is no other world.
func corefile(kubeconfig string) string {
	return fmt.Sprintf(`.:53 {
    bind %s
    errors
    health %s:8080
    ready %s:8181
    template IN A %s {
        answer "{{ .Name }} 60 IN A %s"
    }
    template IN AAAA %s {
        rcode NOERROR
    }
    kubernetes %s in-addr.arpa {
        kubeconfig %s
        pods insecure
    }
    cache 5
}
`, layout.ControlPlane, layout.ControlPlane, layout.ControlPlane, layout.IngressDomain, layout.Ingress, layout.IngressDomain,
		layout.ClusterDomain, kubeconfig)
}
