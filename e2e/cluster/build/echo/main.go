// Command echo is the pod of the smoke test: an HTTP/2 server without TLS, as gRPC servers are behind an ingress, that tells
// what its surroundings are like.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/stream", stream)
	http.HandleFunc("/lookup", lookup)
	http.HandleFunc("/file", file)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true) // kubelet's probe
	server := &http.Server{Addr: ":8080", Protocols: protocols}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}

// stream sends back each piece of the request's body as it comes, while the request is still being sent. The protocol that it
// was spoken to in is in a header.
func stream(writer http.ResponseWriter, request *http.Request) {
	writer.Header().Set("Spoken", request.Proto)
	writer.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(writer)
	_ = flusher.Flush()
	buffer := make([]byte, 1024)
	for {
		count, err := request.Body.Read(buffer)
		if count > 0 {
			_, _ = writer.Write(buffer[:count])
			_ = flusher.Flush()
		}
		if err != nil {
			return
		}
	}
}

// lookup resolves the name in the query.
func lookup(writer http.ResponseWriter, request *http.Request) {
	addresses, err := net.DefaultResolver.LookupHost(request.Context(), request.URL.Query().Get("name"))
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(writer, addresses)
}

// file keeps the body of a PUT on the pod's volume, and gives it back.
func file(writer http.ResponseWriter, request *http.Request) {
	const name = "/data/file"
	if request.Method == http.MethodPut {
		body, err := io.ReadAll(request.Body)
		if err == nil {
			err = os.WriteFile(name, body, 0o600)
		}
		if err != nil {
			http.Error(writer, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	http.ServeFile(writer, request, name)
}
