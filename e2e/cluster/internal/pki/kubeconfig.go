package pki

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
)

// WriteKubeconfig writes a client configuration for the holder of dir/identity.crt, complete in itself.
func WriteKubeconfig(dir, identity, server, target string) error {
	data := make(map[string]string)
	for _, file := range []string{"ca.crt", identity + ".crt", identity + ".key"} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		data[file] = base64.StdEncoding.EncodeToString(content)
	}
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: grid
  cluster: {server: %q, certificate-authority-data: %s}
users:
- name: %s
  user: {client-certificate-data: %s, client-key-data: %s}
contexts:
- name: grid
  context: {cluster: grid, user: %s}
current-context: grid
`, server, data["ca.crt"], identity, data[identity+".crt"], data[identity+".key"], identity)
	return os.WriteFile(target, []byte(text), 0o600)
}
