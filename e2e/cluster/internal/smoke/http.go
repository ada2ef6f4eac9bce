package smoke

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"grid.build/e2e/cluster/internal/cluster"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/node"
	"grid.build/e2e/cluster/internal/process"
)

const (
	origin  = "https://echo." + layout.IngressDomain
	content = "kept on a volume"
)

type test struct {
	cluster  *cluster.Cluster
	node     node.Node
	progress io.Writer
}

// client speaks HTTP/2 through TLS to the ingress, whose name it asks the cluster's DNS server for.
func client() *http.Client {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, layout.ControlPlane+":53")
	}}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true,
		DialContext:       (&net.Dialer{Resolver: resolver, Timeout: 3 * time.Second}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the ingress controller's own certificate
	}}
}

// keepFile is also the first call through the ingress, which may take a moment to learn of its route.
func (t *test) keepFile() error {
	err := process.Await(20*time.Second, func() (bool, error) {
		request, err := http.NewRequest(http.MethodPut, origin+"/file", strings.NewReader(content))
		if err != nil {
			return false, err
		}
		_, err = bodyOf(client().Do(request))
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return t.findFile()
}

func (t *test) findFile() error {
	return process.Await(20*time.Second, func() (bool, error) {
		body, err := bodyOf(client().Get(origin + "/file"))
		if err == nil && body != content {
			err = fmt.Errorf("the file holds %q, not %q", body, content)
		}
		return err == nil, err
	})
}

func (t *test) lookup() error {
	for name, address := range map[string]string{
		"traefik.traefik":                  layout.Ingress,
		"kubernetes.default.svc":           layout.APIService,
		"any.name." + layout.IngressDomain: layout.Ingress,
	} {
		body, err := bodyOf(client().Get(origin + "/lookup?name=" + name))
		if err != nil {
			return err
		}
		if want := "[" + address + "]\n"; body != want {
			return fmt.Errorf("a pod resolves %s to %q, not %q", name, body, want)
		}
	}
	return nil
}

// stream holds a conversation within one request, as gRPC does: each answer comes while the request is still open.
func (t *test) stream() error {
	reader, writer := io.Pipe()
	request, err := http.NewRequest(http.MethodPost, origin+"/stream", reader)
	if err != nil {
		return err
	}
	response, err := client().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.Proto != "HTTP/2.0" || response.Header.Get("Spoken") != "HTTP/2.0" {
		return fmt.Errorf("the ingress speaks %s to clients and %s to the pod, not HTTP/2.0 to both", response.Proto, response.Header.Get("Spoken"))
	}
	for _, word := range []string{"first", "second"} {
		if _, err := io.WriteString(writer, word); err != nil {
			return err
		}
		answer := make([]byte, len(word))
		if _, err := io.ReadFull(response.Body, answer); err != nil || string(answer) != word {
			return fmt.Errorf("sent %q, got %q: %w", word, answer, err)
		}
	}
	return writer.Close()
}

func bodyOf(response *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}
