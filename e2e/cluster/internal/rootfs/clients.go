// Package rootfs makes a Debian root file system with the real clients and workers that tests use (Bazel, BuildStream, recc, the
// buildbox tools), and runs commands in it.
package rootfs

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/ociimage"
)

// suite is the Debian release that has all of the packages.
const suite = "sid"

// packages are the clients and workers, and what builds with them needs.
var packages = []string{
	"buildbox", "buildstream", "bazel-bootstrap", "bazel-rules-cc", "bazel-skylib", "bazel-rules-python",
	// Debian's Netty negotiates HTTP/2 over TLS through OpenSSL alone.
	"libnetty-tcnative-java", "libnetty-tcnative-jni",
	"gcc", "g++", "libc6-dev", "make", "git", "ca-certificates", "curl", "openssl", "procps", "python3", "bubblewrap", "tar", "xz-utils",
}

//go:embed install.sh
var installScript string

// Clients returns the root file system of the clients, which it makes if need be. Nobody may write to it: see Run.
func Clients(progress io.Writer) (string, error) {
	key, err := cache.Key(append([]string{suite, installScript}, packages...))
	if err != nil {
		return "", err
	}
	dir, err := cache.Ensure("clients", suite+"-"+key, func(dir string) error {
		if os.Geteuid() != 0 {
			return errors.New("making the clients' root file system needs root")
		}
		if err := host.EnsurePackages(host.ImagePackages...); err != nil {
			return err
		}
		fmt.Fprintln(progress, "making the clients' root file system from Debian packages; this takes about 4 minutes the first time")
		return bootstrap(filepath.Join(dir, "root"))
	})
	return filepath.Join(dir, "root"), err
}

func bootstrap(root string) error {
	args := []string{"--variant=minbase", suite, root}
	if mirror := host.DebianMirror(); mirror != "" {
		args = append(args, mirror)
	}
	if err := host.Run("debootstrap", args...); err != nil {
		return err
	}
	// In a mount namespace of its own, so that nothing it mounts can stay.
	command := append([]string{"--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", installScript, "install", root}, packages...)
	return host.Run("unshare", command...)
}

// Image writes the root file system as an OCI archive and returns its path. The archive is of the size of the file system.
func Image(progress io.Writer) (string, error) {
	root, err := Clients(progress)
	if err != nil {
		return "", err
	}
	key := filepath.Base(filepath.Dir(root))
	dir, err := cache.Ensure("images", "clients-"+key, func(dir string) error {
		return ociimage.Write(filepath.Join(dir, "clients.tar"), ociimage.Image{
			Name: "localhost/clients:" + suite,
			Cmd:  []string{"/bin/bash"},
			Env:  []string{"PATH=" + searchPath, "LANG=C.UTF-8"},
			Layer: func(layer *ociimage.Layer) error {
				return layer.Tree(root, func(name string) bool { return name == "proc" || name == "sys" || name == "dev" })
			},
		})
	})
	return filepath.Join(dir, "clients.tar"), err
}
