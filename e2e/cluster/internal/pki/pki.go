// Package pki makes the certificates by which the parts of the cluster know each other. They live as long as the
// cluster, a day or two; nothing of it is fit for a cluster that anybody else can reach.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"grid.build/e2e/cluster/internal/layout"
)

const lifetime = 90 * 24 * time.Hour

// Identity is what a certificate says of its holder.
type Identity struct {
	File  string // base name of the .crt and .key files
	Name  string // the user that the API server takes it for
	Group string
	Names []string // host names and IP addresses
}

// Identities are all certificates of a cluster.
func Identities(nodes int) []Identity {
	identities := []Identity{
		{File: "apiserver", Name: "kube-apiserver", Names: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + layout.ClusterDomain,
			"localhost", "127.0.0.1", layout.APIService, layout.ControlPlane,
		}},
		{File: "apiserver-kubelet", Name: "kube-apiserver-kubelet-client", Group: "system:masters"},
		{File: "admin", Name: "admin", Group: "system:masters"},
		{File: "controller-manager", Name: "system:kube-controller-manager"},
		{File: "scheduler", Name: "system:kube-scheduler"},
		{File: "kube-proxy", Name: "system:kube-proxy"},
	}
	for node := 1; node <= nodes; node++ {
		identities = append(identities, Identity{
			File: layout.NodeName(node), Name: "system:node:" + layout.NodeName(node), Group: "system:nodes",
			Names: []string{layout.NodeName(node), layout.NodeAddress(node)},
		})
	}
	return identities
}

// Make writes a CA, the given certificates and the key pair that signs service account tokens; if they exist, it leaves them.
func Make(dir string, identities []Identity) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	authority, err := loadOrMakeAuthority(dir)
	if err != nil {
		return fmt.Errorf("making the certificate authority: %w", err)
	}
	for _, identity := range identities {
		if exists(dir, identity.File+".crt") {
			continue
		}
		if err := authority.issue(dir, identity); err != nil {
			return fmt.Errorf("making the certificate of %s: %w", identity.Name, err)
		}
	}
	if exists(dir, "sa.pub") {
		return nil
	}
	return makeKeyPair(dir, "sa")
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func loadOrMakeAuthority(dir string) (*authority, error) {
	if exists(dir, "ca.crt") {
		return loadAuthority(dir)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := templateFor(Identity{Name: "grid test cluster"})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := write(dir, "ca", template, template, key, key); err != nil {
		return nil, err
	}
	return loadAuthority(dir)
}

func loadAuthority(dir string) (*authority, error) {
	certificate, err := readPem(dir, "ca.crt")
	if err != nil {
		return nil, err
	}
	keyBytes, err := readPem(dir, "ca.key")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBytes)
	if err != nil {
		return nil, err
	}
	return &authority{parsed, key}, nil
}

func (a *authority) issue(dir string, identity Identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := templateFor(identity)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return write(dir, identity.File, template, a.certificate, key, a.key)
}

func templateFor(identity Identity) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: identity.Name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(lifetime),
	}
	if identity.Group != "" {
		template.Subject.Organization = []string{identity.Group}
	}
	for _, name := range identity.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

func write(dir, file string, template, issuer *x509.Certificate, key, issuerKey *ecdsa.PrivateKey) error {
	certificate, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return err
	}
	if err := writeKey(dir, file+".key", key); err != nil {
		return err
	}
	// The certificate comes last: its presence says that the pair is complete.
	return writePem(dir, file+".crt", "CERTIFICATE", certificate)
}

func makeKeyPair(dir, file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(dir, file+".key", key); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return writePem(dir, file+".pub", "PUBLIC KEY", public)
}

func writeKey(dir, file string, key *ecdsa.PrivateKey) error {
	bytes, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePem(dir, file, "EC PRIVATE KEY", bytes)
}

func writePem(dir, file, kind string, bytes []byte) error {
	return os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
}

func readPem(dir, file string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", file)
	}
	return block.Bytes, nil
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}
