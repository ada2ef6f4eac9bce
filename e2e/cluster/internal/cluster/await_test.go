package cluster

import (
	"testing"
	"time"
)

func TestReadySince(t *testing.T) {
	started := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for condition, want := range map[string]bool{
		"True 2030-01-01T12:00:00Z kubelet is posting ready status":   true,
		"True 2030-01-01T11:59:59Z kubelet is posting ready status":   false,
		"Unknown 2030-01-01T12:00:09Z Kubelet stopped posting status": false,
		"": false,
	} {
		if ready, err := readySince(condition, started); ready != want || (err == nil) != want {
			t.Errorf("%q: got %t, %v", condition, ready, err)
		}
	}
}
