package cluster

import (
	"slices"
	"testing"
)

func TestMountsIn(t *testing.T) {
	table := `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:21 / /state/n1/var/lib rw - overlay overlay rw
31 22 0:21 / /stateless rw - tmpfs tmpfs rw
32 22 0:22 / /run/containerd rw - tmpfs tmpfs rw
`
	found := mountsIn(table, "/state", []string{"/run/containerd"})
	if want := []string{"mount /state/n1/var/lib", "mount /run/containerd"}; !slices.Equal(found, want) {
		t.Errorf("got %v, want %v", found, want)
	}
}
