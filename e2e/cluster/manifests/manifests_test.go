package manifests

import (
	"strings"
	"testing"

	"grid.build/e2e/cluster/internal/layout"
)

func TestClusterHasEveryAddress(t *testing.T) {
	text, err := Cluster("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clusterIP: " + layout.DNSService, "clusterIP: " + layout.Ingress, `addresses: ["` + layout.ControlPlane + `"]`, "localhost/traefik:1.2.3"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "<no value>") {
		t.Error("a value is not set")
	}
}
