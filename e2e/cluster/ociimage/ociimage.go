// Package ociimage writes container images as OCI archives, from nothing but files: no daemon, no root, no base image.
// The same files give the same bytes, and so the same digest, whenever and wherever they are written.
package ociimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Image is what an archive holds: one image of one layer.
type Image struct {
	Name       string // reference by which the archive's importer names it, such as localhost/pause:1
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string // "uid" or "uid:gid"
	WorkingDir string
	Layer      func(*Layer) error // adds the files
}

// epoch is the time stamp of everything in an archive.
var epoch = time.Unix(0, 0).UTC()

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write writes the archive to a file, which appears only when it is complete.
func Write(path string, image Image) error {
	layer, err := spoolLayer(filepath.Dir(path), image.Layer)
	if err != nil {
		return fmt.Errorf("writing the layer of %s: %w", image.Name, err)
	}
	defer os.Remove(layer.file)
	config, err := json.Marshal(configOf(image, layer.descriptor.Digest))
	if err != nil {
		return err
	}
	configDescriptor := describe("application/vnd.oci.image.config.v1+json", config)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        configDescriptor,
		"layers":        []descriptor{layer.descriptor},
	})
	if err != nil {
		return err
	}
	manifestDescriptor := describe("application/vnd.oci.image.manifest.v1+json", manifest)
	manifestDescriptor.Annotations = map[string]string{"io.containerd.image.name": image.Name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifestDescriptor}})
	if err != nil {
		return err
	}

	partial, err := os.CreateTemp(filepath.Dir(path), ".oci-*")
	if err != nil {
		return err
	}
	defer os.Remove(partial.Name())
	archive := tar.NewWriter(partial)
	for _, entry := range []struct {
		name    string
		content []byte
	}{
		{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", index},
		{blobName(configDescriptor), config},
		{blobName(manifestDescriptor), manifest},
	} {
		if err := addBytes(archive, entry.name, entry.content); err != nil {
			return err
		}
	}
	if err := addFile(archive, blobName(layer.descriptor), layer.file, 0o644); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := partial.Close(); err != nil {
		return err
	}
	if err := os.Chmod(partial.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(partial.Name(), path)
}

func configOf(image Image, diffID string) map[string]any {
	return map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      epoch.Format(time.RFC3339),
		"config": map[string]any{
			"Entrypoint": image.Entrypoint,
			"Cmd":        image.Cmd,
			"Env":        image.Env,
			"User":       image.User,
			"WorkingDir": image.WorkingDir,
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{diffID}},
	}
}

type spooledLayer struct {
	file       string
	descriptor descriptor
}

// spoolLayer writes the layer to a file beside the archive, for its digest must be known before it is put in.
func spoolLayer(dir string, fill func(*Layer) error) (*spooledLayer, error) {
	file, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return nil, err
	}
	sum, size := sha256.New(), new(counter)
	layer := &Layer{tar: tar.NewWriter(io.MultiWriter(file, sum, size))}
	err = fill(layer)
	if err == nil {
		err = layer.tar.Close()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		os.Remove(file.Name())
		return nil, err
	}
	return &spooledLayer{file.Name(), descriptor{
		MediaType: "application/vnd.oci.image.layer.v1.tar",
		Digest:    "sha256:" + hex.EncodeToString(sum.Sum(nil)),
		Size:      int64(*size),
	}}, nil
}

type counter int64

func (c *counter) Write(bytes []byte) (int, error) {
	*c += counter(len(bytes))
	return len(bytes), nil
}

func describe(mediaType string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	return descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(content))}
}

func blobName(d descriptor) string { return "blobs/sha256/" + d.Digest[len("sha256:"):] }

func addBytes(archive *tar.Writer, name string, content []byte) error {
	header := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch, Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(archive, bytes.NewReader(content))
	return err
}

func addFile(archive *tar.Writer, name, source string, mode int64) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: mode, Size: info.Size(), ModTime: epoch, Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}
