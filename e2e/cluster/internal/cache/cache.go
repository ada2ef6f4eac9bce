// Package cache keeps what is built under names that tell what it was built from, outside the source tree,
// so that nothing is built twice and nothing stale is used.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// Root is the folder of everything that gridcluster keeps: $GRID_CACHE/cluster, by default under the user's cache.
func Root() string {
	base := os.Getenv("GRID_CACHE")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "/var/cache"
		}
		base = filepath.Join(home, ".cache", "grid-operator")
	}
	return filepath.Join(base, "cluster")
}

// Key is a hash over strings and the contents of files; a folder stands for the files directly in it.
func Key(strings []string, paths ...string) (string, error) {
	sum := sha256.New()
	for _, s := range strings {
		fmt.Fprintf(sum, "%d:%s", len(s), s)
	}
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return "", err
		}
		for _, entry := range entries {
			if entry.Type().IsRegular() {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	sort.Strings(files)
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s:%d:", filepath.Base(name), len(content))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// Ensure returns the folder Root/kind/key, which make fills if it does not exist yet. A folder appears only once it is
// complete, and of several processes that want it one makes it.
func Ensure(kind, key string, make func(dir string) error) (string, error) {
	parent := filepath.Join(Root(), kind)
	final := filepath.Join(parent, key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	unlock, err := Lock(final + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	partial := final + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := os.Mkdir(partial, 0o755); err != nil {
		return "", err
	}
	if err := make(partial); err != nil {
		return "", err
	}
	return final, os.Rename(partial, final)
}

// Lock waits for an exclusive lock on a file, which it makes if need be, and returns what gives the lock back.
func Lock(path string) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// CopyFile copies a file with its permissions.
func CopyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
