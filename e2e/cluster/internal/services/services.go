// Package services makes the images of the servers that tests put beside a grid: PostgreSQL and Redis from Debian's packages, and
// an S3 server built from source. The manifests that run them are manifests/{postgres,redis,s3}.yaml.
package services

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"grid.build/e2e/cluster/internal/addons"
	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/ociimage"
)

// suite is the Debian release whose servers are used.
const suite = "bookworm"

//go:embed postgres.sh
var postgresScript string

// debianImage is an image of extracted Debian packages: what they hold, not what their installation would set up.
type debianImage struct {
	name       string
	reference  string
	packages   []string
	entrypoint []string
	user       int
	script     string // /entrypoint.sh, or ""
}

var debianImages = []debianImage{
	{
		name: "postgres", reference: "localhost/postgres:15", user: 999,
		packages:   []string{"postgresql-15", "postgresql-client-15", "dash", "tzdata"},
		entrypoint: []string{"/bin/sh", "/entrypoint.sh"},
		script:     postgresScript,
	},
	{
		name: "redis", reference: "localhost/redis:7", user: 999,
		packages:   []string{"redis-server", "redis-tools"},
		entrypoint: []string{"/usr/bin/redis-server"},
	},
}

// Images returns the OCI archives of all services, which it makes if need be.
func Images(progress io.Writer) ([]string, error) {
	var archives []string
	for _, image := range debianImages {
		archive, err := image.archive(progress)
		if err != nil {
			return nil, fmt.Errorf("making the image %s: %w", image.reference, err)
		}
		archives = append(archives, archive)
	}
	gateway := addons.ProgramImage{
		Program: "versitygw", Name: "localhost/s3:1", User: "999:999",
		Files: func(layer *ociimage.Layer) error { return layer.OwnedDir("data", 0o755, 999) },
	}
	archive, err := gateway.Archive(progress)
	if err != nil {
		return nil, fmt.Errorf("making the image %s: %w", gateway.Name, err)
	}
	return append(archives, archive), nil
}

func (d debianImage) archive(progress io.Writer) (string, error) {
	key, err := cache.Key([]string{suite, d.reference, strings.Join(d.packages, " "), strings.Join(d.entrypoint, " "), d.script, fmt.Sprint(d.user)})
	if err != nil {
		return "", err
	}
	file := d.name + ".tar"
	dir, err := cache.Ensure("images", d.name+"-"+key, func(dir string) error {
		if err := host.EnsurePackages(host.ImagePackages...); err != nil {
			return err
		}
		fmt.Fprintf(progress, "making the image %s from Debian packages\n", d.reference)
		root := filepath.Join(dir, "root")
		defer os.RemoveAll(root)
		args := []string{"--variant=extract", "--include=" + strings.Join(d.packages, ","), suite, root}
		if mirror := host.DebianMirror(); mirror != "" {
			args = append(args, mirror)
		}
		if err := host.Run("mmdebstrap", args...); err != nil {
			return err
		}
		return d.write(filepath.Join(dir, file), root)
	})
	return filepath.Join(dir, file), err
}

func (d debianImage) write(archive, root string) error {
	return ociimage.Write(archive, ociimage.Image{
		Name:       d.reference,
		Entrypoint: d.entrypoint,
		Env:        []string{"PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		User:       fmt.Sprintf("%d:%d", d.user, d.user),
		Layer: func(layer *ociimage.Layer) error {
			if err := layer.Tree(root, unneeded); err != nil {
				return err
			}
			// A server looks up the name of the user that it runs as.
			users := fmt.Sprintf("root:x:0:0::/:\n%s:x:%d:%d::/:\n", d.name, d.user, d.user)
			groups := fmt.Sprintf("root:x:0:\n%s:x:%d:\n", d.name, d.user)
			if err := layer.Bytes("etc/passwd", 0o644, []byte(users)); err != nil {
				return err
			}
			if err := layer.Bytes("etc/group", 0o644, []byte(groups)); err != nil {
				return err
			}
			if err := layer.OwnedDir("data", 0o755, d.user); err != nil || d.script == "" {
				return err
			}
			return layer.Bytes("entrypoint.sh", 0o644, []byte(d.script))
		},
	})
}

// unneeded tells what servers can do without: documentation, the compiler for just-in-time queries, other languages.
func unneeded(name string) bool {
	for _, prefix := range []string{
		"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/perl", "usr/share/lintian", "usr/share/bash-completion",
		"usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/libLLVM", "usr/lib/x86_64-linux-gnu/libz3",
		"usr/lib/x86_64-linux-gnu/libicutest", "usr/lib/llvm-14", "usr/lib/postgresql/15/lib/bitcode", "usr/lib/postgresql/15/lib/llvmjit",
		"var/cache", "var/lib/apt", "var/log", "etc/apt", "etc/resolv.conf", "etc/hostname",
	} {
		if name == prefix || strings.HasPrefix(name, prefix+"/") || strings.HasPrefix(prefix, "usr/lib") && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
