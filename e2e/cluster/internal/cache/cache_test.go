package cache

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestKeyChangesWithContent(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "go.mod")
	key := func(text string, strings ...string) string {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		key, err := Key(strings, dir)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	base := key("module a", "x", "y")
	if key("module a", "x", "y") != base {
		t.Error("the same content gives another key")
	}
	for _, other := range []string{key("module b", "x", "y"), key("module a", "xy"), key("module a", "x", "z")} {
		if other == base {
			t.Error("other content gives the same key")
		}
	}
}

func TestEnsureMakesOnce(t *testing.T) {
	t.Setenv("GRID_CACHE", t.TempDir())
	var made atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			dir, err := Ensure("kind", "key", func(dir string) error {
				made.Add(1)
				return os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

func TestFailedEnsureIsTriedAgain(t *testing.T) {
	t.Setenv("GRID_CACHE", t.TempDir())
	broken := errors.New("broken")
	if _, err := Ensure("kind", "key", func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), broken)
	}); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	dir, err := Ensure("kind", "key", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); err == nil {
		t.Error("what the failed try made is still there")
	}
}
