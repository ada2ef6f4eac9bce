// Package manifests carries the objects that the cluster itself needs, and the services that tests may add to it.
package manifests

import (
	"embed"
	"strings"
	"text/template"

	"grid.build/e2e/cluster/internal/layout"
)

//go:embed cluster/*.yaml
var files embed.FS

// Cluster is everything that each cluster gets: storage class, DNS, ingress controller.
func Cluster(traefikVersion string) (string, error) {
	parsed, err := template.ParseFS(files, "cluster/*.yaml")
	if err != nil {
		return "", err
	}
	values := map[string]string{
		"ControlPlane":   layout.ControlPlane,
		"DNSService":     layout.DNSService,
		"Ingress":        layout.Ingress,
		"TraefikVersion": traefikVersion,
	}
	var text strings.Builder
	for _, name := range []string{"storage.yaml", "dns.yaml", "traefik.yaml"} {
		if err := parsed.ExecuteTemplate(&text, name, values); err != nil {
			return "", err
		}
		text.WriteString("---\n")
	}
	return text.String(), nil
}
