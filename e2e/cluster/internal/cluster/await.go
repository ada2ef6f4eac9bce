package cluster

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/node"
	"grid.build/e2e/cluster/internal/process"
)

func (c *Cluster) awaitNodes() error {
	for _, node := range c.Nodes {
		if err := c.AwaitNode(node); err != nil {
			return err
		}
	}
	return nil
}

// AwaitNode waits until the node's kubelet says that it is ready. What it said before its last start does not count: the API
// server would repeat that for seconds.
func (c *Cluster) AwaitNode(node node.Node) error {
	const said = `-o=jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime} {.message}{end}`
	started := node.Part().Started().Truncate(time.Second)
	err := process.Await(60*time.Second, func() (bool, error) {
		answer, err := c.Client.Run("get", "node", node.Name(), said)
		if err != nil {
			return false, err
		}
		return readySince(answer, started)
	})
	if err != nil {
		return fmt.Errorf("%s does not get ready: %w\n%s", node.Name(), err, tail(node.LogFile("kubelet")))
	}
	return nil
}

// readySince reads "STATUS HEARTBEAT MESSAGE" of a node's Ready condition.
func readySince(condition string, started time.Time) (bool, error) {
	fields := strings.SplitN(condition, " ", 3)
	if len(fields) < 3 {
		return false, fmt.Errorf("the node has no Ready condition yet")
	}
	heartbeat, err := time.Parse(time.RFC3339, fields[1])
	if err != nil {
		return false, err
	}
	if fields[0] != "True" {
		return false, fmt.Errorf("its Ready condition is %s: %s", fields[0], fields[2])
	}
	if heartbeat.Before(started) {
		return false, fmt.Errorf("its kubelet has said nothing since it was started")
	}
	return true, nil
}

// awaitIngress waits until the ingress controller answers; 404 is what it answers while it has no route.
func (c *Cluster) awaitIngress() error {
	_, err := c.Client.Run("rollout", "status", "deployment/traefik", "--namespace=traefik", "--timeout=60s")
	if err == nil {
		client := &http.Client{Timeout: 2 * time.Second}
		err = process.Await(30*time.Second, func() (bool, error) {
			response, err := client.Get("http://" + layout.Ingress + "/")
			if err != nil {
				return false, err
			}
			return true, response.Body.Close()
		})
	}
	if err != nil {
		pods, _ := c.Client.Run("describe", "pods", "--namespace=traefik")
		return fmt.Errorf("the ingress controller does not get ready: %w\n%s\n%s", err, pods, tail(c.Nodes[0].LogFile("kubelet")))
	}
	return nil
}

func tail(file string) string {
	if _, err := os.Stat(file); err != nil {
		return "it wrote no log"
	}
	return process.LogTail(file, 12)
}
