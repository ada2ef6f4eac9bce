package node

import (
	"strings"
	"testing"
)

func TestNodesShareTheMachine(t *testing.T) {
	for _, example := range []struct {
		count int
		want  string
	}{
		{1, "kubeReserved: {cpu: 0m, memory: 0Ki}"},
		{2, "kubeReserved: {cpu: 1000m, memory: 8000Ki}"},
	} {
		config := Node{Index: 1, Count: example.count, Dir: "/cluster"}.kubeletConfig(2, 16000)
		if !strings.Contains(config, example.want) {
			t.Errorf("with %d nodes there is no %q in\n%s", example.count, example.want, config)
		}
	}
}

func TestNodesDoNotShareCgroupsOrAddresses(t *testing.T) {
	first, second := Node{Index: 1, Count: 2, Dir: "/cluster"}, Node{Index: 2, Count: 2, Dir: "/cluster"}
	if !strings.Contains(first.kubeletConfig(2, 1), "cgroupRoot: /node1\n") || !strings.Contains(second.kubeletConfig(2, 1), "cgroupRoot: /node2\n") {
		t.Error("each node needs a cgroup of its own")
	}
	if first.cniConfig() == second.cniConfig() {
		t.Error("two nodes give the same addresses to pods")
	}
}
