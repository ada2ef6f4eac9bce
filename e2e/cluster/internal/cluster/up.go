package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"grid.build/e2e/cluster/internal/addons"
	"grid.build/e2e/cluster/internal/controlplane"
	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/network"
	"grid.build/e2e/cluster/internal/pki"
	"grid.build/e2e/cluster/manifests"
)

// Up brings a cluster of that many nodes up in a folder and loads the given OCI archives into its nodes. What of it runs already
// is left as it is.
func Up(dir layout.Dir, nodes int, archives []string, progress io.Writer) (*Cluster, error) {
	if err := preflight(dir, nodes); err != nil {
		return nil, err
	}
	steps := steps{progress}
	var own []string
	err := steps.run("programs and images", func() (err error) {
		if err = host.EnsurePackages(host.NodePackages...); err == nil {
			own, err = addons.Images(progress)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	cluster, err := Open(dir)
	if err != nil {
		if cluster, err = create(dir, nodes, progress); err != nil {
			return nil, err
		}
	}
	return cluster, cluster.start(steps, append(own, archives...))
}

func preflight(dir layout.Dir, nodes int) error {
	if os.Geteuid() != 0 {
		return errors.New("a cluster needs root: it makes network namespaces, mounts and cgroups")
	}
	if nodes < 1 || nodes > layout.MaxNodes {
		return fmt.Errorf("--nodes %d: a cluster has 1 or %d nodes", nodes, layout.MaxNodes)
	}
	current := layout.Default()
	running, err := Open(current)
	if err != nil {
		if left := network.Leftovers(); len(left) > 0 {
			return fmt.Errorf("the machine already has the %s, of a cluster whose folder is not known: remove them (ip netns del NAME)",
				strings.Join(left, ", "))
		}
		return nil
	}
	if current != dir {
		return fmt.Errorf("a cluster runs in %s, and a machine carries one at a time: end it with `gridcluster down`", current)
	}
	if len(running.Nodes) != nodes {
		return fmt.Errorf("--nodes %d: the cluster that runs has %d: end it first with `gridcluster down`", nodes, len(running.Nodes))
	}
	return nil
}

func (c *Cluster) start(steps steps, archives []string) error {
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"certificates, network", c.prepare},
		{"API server, node images", func() error { return c.startAPI(archives) }},
		{"controllers, scheduler, DNS", c.startControllers},
		{"nodes ready", c.awaitNodes},
		{"DNS, ingress ready", func() error { return inParallel(c.Control.AwaitDNS, c.awaitIngress) }},
		{"environment file", func() error { return os.WriteFile(c.Dir.Env(), []byte(c.EnvFile()), 0o644) }},
	} {
		if err := steps.run(step.name, step.run); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) prepare() error {
	if err := pki.Make(c.Dir.Pki(), pki.Identities(len(c.Nodes))); err != nil {
		return err
	}
	if err := c.Control.Configure(); err != nil {
		return err
	}
	return network.Make(len(c.Nodes))
}

// startAPI starts the nodes too: they take their images while the API server starts.
func (c *Cluster) startAPI(archives []string) error {
	for _, part := range []string{"etcd", "kube-apiserver"} {
		if err := c.Control.Start(part); err != nil {
			return err
		}
	}
	return inParallel(c.Control.AwaitAPI, func() error { return c.bootNodes(archives) })
}

func (c *Cluster) startControllers() error {
	for _, part := range controlplane.Parts {
		if err := c.Control.Start(part); err != nil {
			return err
		}
	}
	text, err := manifests.Cluster(addons.TraefikVersion)
	if err != nil {
		return err
	}
	return c.Client.Apply(text)
}

func (c *Cluster) bootNodes(archives []string) error {
	for _, node := range c.Nodes {
		if err := node.Start(); err != nil {
			return err
		}
	}
	return c.Load(archives)
}

// Load imports the images of OCI archives into every node that is on.
func (c *Cluster) Load(archives []string) error {
	var imports []func() error
	for _, node := range c.Nodes {
		if node.Part().Pid() == 0 {
			continue
		}
		imports = append(imports, func() error {
			if err := node.AwaitContainerd(); err != nil {
				return err
			}
			for _, archive := range archives {
				if err := node.Import(archive); err != nil {
					return fmt.Errorf("importing %s into %s: %w", archive, node.Name(), err)
				}
			}
			return nil
		})
	}
	return inParallel(imports...)
}

// EnvFile tells scripts where everything is, as NAME=value lines.
func (c *Cluster) EnvFile() string {
	lines := append(c.Client.Environment(),
		"KUBECTL="+c.Client.Kubectl,
		"HELM="+c.Client.Helm,
		"INGRESS_ADDRESS="+layout.Ingress,
		"INGRESS_DOMAIN="+layout.IngressDomain,
		"DNS_ADDRESS="+layout.ControlPlane,
		"HOST_ADDRESS="+layout.Host,
		"GRID_CLUSTER_DIR="+string(c.Dir),
		fmt.Sprintf("NODES=%d", len(c.Nodes)),
	)
	return strings.Join(lines, "\n") + "\n"
}

// steps tells how long each step takes.
type steps struct{ progress io.Writer }

func (s steps) run(name string, step func() error) error {
	start := time.Now()
	if err := step(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(s.progress, "%-28s %6.1f s\n", name, time.Since(start).Seconds())
	return nil
}

func inParallel(tasks ...func() error) error {
	failures := make([]error, len(tasks))
	var group sync.WaitGroup
	for i, task := range tasks {
		group.Add(1)
		go func() {
			defer group.Done()
			failures[i] = task()
		}()
	}
	group.Wait()
	return errors.Join(failures...)
}
