package pki

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func load(t *testing.T, dir, file string) *x509.Certificate {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestCertificatesServeTheirHolders(t *testing.T) {
	dir := t.TempDir()
	if err := Make(dir, Identities(2)); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(load(t, dir, "ca.crt"))
	for file, name := range map[string]string{
		"apiserver.crt": "172.30.0.254", "node1.crt": "172.30.0.1", "node2.crt": "node2",
	} {
		usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if _, err := load(t, dir, file).Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: usages}); err != nil {
			t.Errorf("%s for %s: %v", file, name, err)
		}
	}
	node := load(t, dir, "node2.crt").Subject
	if node.CommonName != "system:node:node2" || node.Organization[0] != "system:nodes" {
		t.Errorf("node 2 is %s", node)
	}
}

func TestMakeKeepsWhatExists(t *testing.T) {
	dir := t.TempDir()
	if err := Make(dir, Identities(1)); err != nil {
		t.Fatal(err)
	}
	ca, admin := load(t, dir, "ca.crt"), load(t, dir, "admin.crt")
	if err := Make(dir, Identities(2)); err != nil {
		t.Fatal(err)
	}
	if !ca.Equal(load(t, dir, "ca.crt")) || !admin.Equal(load(t, dir, "admin.crt")) {
		t.Error("a second call made other certificates")
	}
	if err := load(t, dir, "node2.crt").CheckSignatureFrom(ca); err != nil {
		t.Errorf("the new certificate is not the old authority's: %v", err)
	}
}
