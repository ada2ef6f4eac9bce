package ociimage

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func example(source string) Image {
	return Image{
		Name: "localhost/example:1", Entrypoint: []string{"/program"}, User: "65532:65532",
		Layer: func(layer *Layer) error {
			return errors.Join(
				layer.OwnedDir("data", 0o755, 999),
				layer.Bytes("etc/passwd", 0o644, []byte("root:x:0:0::/:\n")),
				layer.Tree(source, func(name string) bool { return name == "skipped" }),
			)
		},
	}
}

// tree makes files whose time stamps differ from run to run.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("program", "binary")
	write("skipped/file", "not wanted")
	write("deep/er/file", "content")
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "program"), 0o755),
		os.Symlink("program", filepath.Join(dir, "alias")),
		os.Link(filepath.Join(dir, "program"), filepath.Join(dir, "second")),
		os.Chtimes(filepath.Join(dir, "program"), time.Now(), time.Now().Add(-time.Duration(os.Getpid())*time.Second)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func entries(t *testing.T, archive io.Reader) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	headers, contents := make(map[string]*tar.Header), make(map[string][]byte)
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if err == io.EOF {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		if headers[header.Name] != nil {
			t.Errorf("%s is twice in the archive", header.Name)
		}
		headers[header.Name] = header
		if contents[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSameFilesGiveSameBytes(t *testing.T) {
	dir := t.TempDir()
	var written [2][]byte
	for i := range written {
		file := filepath.Join(dir, "image.tar")
		if err := Write(file, example(tree(t))); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		written[i] = content
	}
	if string(written[0]) != string(written[1]) {
		t.Error("two archives of the same files differ")
	}
}

func TestArchiveIsConsistent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := Write(file, example(tree(t))); err != nil {
		t.Fatal(err)
	}
	archive, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	_, contents := entries(t, archive)
	for name, content := range contents {
		if digest, isBlob := strings.CutPrefix(name, "blobs/sha256/"); isBlob {
			if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
				t.Errorf("%s does not have the content of its name", name)
			}
		}
	}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(contents["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != "localhost/example:1" {
		t.Errorf("the archive names its image %q", name)
	}
	var manifest struct {
		Config descriptor   `json:"config"`
		Layers []descriptor `json:"layers"`
	}
	if err := json.Unmarshal(contents[blobName(index.Manifests[0])], &manifest); err != nil {
		t.Fatal(err)
	}
	for _, blob := range append(manifest.Layers, manifest.Config) {
		if int64(len(contents[blobName(blob)])) != blob.Size {
			t.Errorf("%s has %d bytes, its descriptor says %d", blob.Digest, len(contents[blobName(blob)]), blob.Size)
		}
	}
	checkLayer(t, contents[blobName(manifest.Layers[0])])
}

func checkLayer(t *testing.T, layer []byte) {
	t.Helper()
	headers, contents := entries(t, strings.NewReader(string(layer)))
	if headers["skipped/"] != nil || headers["skipped/file"] != nil {
		t.Error("the layer holds what was to be left out")
	}
	if got := string(contents["deep/er/file"]); got != "content" {
		t.Errorf("deep/er/file holds %q", got)
	}
	if headers["program"].Mode != 0o755 {
		t.Errorf("program has mode %o", headers["program"].Mode)
	}
	if link := headers["second"]; link.Typeflag != tar.TypeLink || link.Linkname != "program" {
		t.Errorf("the second name of program is %c to %q", link.Typeflag, link.Linkname)
	}
	if link := headers["alias"]; link.Typeflag != tar.TypeSymlink || link.Linkname != "program" {
		t.Errorf("alias is %c to %q", link.Typeflag, link.Linkname)
	}
	if headers["data/"].Uid != 999 {
		t.Errorf("data belongs to %d", headers["data/"].Uid)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no such file")
	err := Write(filepath.Join(dir, "image.tar"), Image{Layer: func(*Layer) error { return broken }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s stays", left[0].Name())
	}
}
