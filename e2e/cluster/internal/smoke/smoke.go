// Package smoke tests a whole cluster: pods, volumes, names, ingress, a node's death and return, and that nothing stays.
package smoke

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"grid.build/e2e/cluster/internal/addons"
	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/cluster"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/process"
)

//go:embed manifest.yaml
var manifest string

// echoImage is the image of the smoke test's pod.
var echoImage = addons.ProgramImage{Program: "echo", Name: "localhost/echo:1", User: "1000:1000"}

// Run tests a cluster of that many nodes, from start to end. It refuses to touch a cluster that runs already.
func Run(nodes int, progress io.Writer) error {
	if _, err := cluster.Open(layout.Default()); err == nil {
		return fmt.Errorf("a cluster runs in %s: the smoke test starts one of its own, so end that first", layout.Default())
	}
	archive, err := echoImage.Archive(progress)
	if err != nil {
		return err
	}
	running, err := cluster.Up(layout.Dir(filepath.Join(cache.Root(), "smoke")), nodes, []string{archive}, progress)
	if err != nil {
		return fmt.Errorf("starting the cluster: %w", err)
	}
	test := &test{cluster: running, node: running.Nodes[nodes-1], progress: progress}
	err = test.all()
	if err != nil {
		// Its logs and objects are what explains a failure; the next `down` removes them.
		return fmt.Errorf("%w\n(the cluster is left as it is, to look at: gridcluster status, logs, kubectl; then gridcluster down)", err)
	}
	start := time.Now()
	if err := running.Down(""); err != nil {
		return err
	}
	if _, err := os.Stat(string(running.Dir)); err == nil {
		return fmt.Errorf("%s is still there", running.Dir)
	}
	fmt.Fprintf(progress, "%-28s %6.1f s\n", "down, nothing left", time.Since(start).Seconds())
	return nil
}

func (t *test) all() error {
	checks := []check{
		{"pod with a volume runs", t.startPod},
		{"volume keeps a file", t.keepFile},
		{"Service names resolve", t.lookup},
		{"h2c stream through TLS", t.stream},
	}
	if len(t.cluster.Nodes) > 1 {
		checks = append(checks,
			check{"dead node is noticed", t.killNode},
			check{"node is back", t.startNode},
			check{"file survived the node", t.findFile},
			check{"cut and hung nodes return", t.cutAndFreeze},
		)
	}
	checks = append(checks, check{"API server restarts", t.restartAPI}, check{"deleted, volume removed", t.remove})
	for _, check := range checks {
		start := time.Now()
		if err := check.run(); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
		fmt.Fprintf(t.progress, "%-28s %6.1f s\n", check.name, time.Since(start).Seconds())
	}
	return nil
}

type check struct {
	name string
	run  func() error
}

func (t *test) startPod() error {
	if err := t.cluster.Client.Apply(strings.ReplaceAll(manifest, "NODE", t.node.Name())); err != nil {
		return err
	}
	return t.kubectl("rollout", "status", "statefulset/echo", "--namespace=smoke", "--timeout=60s")
}

func (t *test) killNode() error {
	if err := t.cluster.KillNode(t.node); err != nil {
		return err
	}
	return t.awaitReady("Unknown")
}

func (t *test) startNode() error {
	if err := t.cluster.StartNode(t.node); err != nil {
		return err
	}
	return t.awaitPod()
}

func (t *test) cutAndFreeze() error {
	for _, fault := range []struct{ begin, end func() error }{
		{func() error { return t.cluster.CutNode(t.node) }, func() error { return t.cluster.HealNode(t.node) }},
		{t.node.Freeze, t.node.Thaw},
	} {
		if err := fault.begin(); err != nil {
			return err
		}
		if err := t.awaitReady("Unknown"); err != nil {
			return err
		}
		if err := fault.end(); err != nil {
			return err
		}
		if err := t.awaitReady("True"); err != nil {
			return err
		}
	}
	return t.awaitPod()
}

func (t *test) restartAPI() error {
	if err := t.cluster.Restart("kube-apiserver"); err != nil {
		return err
	}
	if err := t.cluster.Control.AwaitAPI(); err != nil {
		return err
	}
	return t.findFile()
}

func (t *test) remove() error {
	if err := t.kubectl("delete", "namespace", "smoke", "--timeout=60s"); err != nil {
		return err
	}
	return process.Await(30*time.Second, func() (bool, error) {
		volumes, err := os.ReadDir(t.cluster.Dir.Volumes())
		return err == nil && len(volumes) == 0, err
	})
}

// awaitReady waits until the node's Ready condition is so; a node that is not heard of is Unknown.
func (t *test) awaitReady(status string) error {
	return t.kubectl("wait", "--for=condition=Ready="+status, "node/"+t.node.Name(), "--timeout=60s")
}

func (t *test) awaitPod() error {
	return t.kubectl("wait", "--for=condition=Ready", "pod/echo-0", "--namespace=smoke", "--timeout=60s")
}

func (t *test) kubectl(args ...string) error {
	_, err := t.cluster.Client.Run(args...)
	return err
}
