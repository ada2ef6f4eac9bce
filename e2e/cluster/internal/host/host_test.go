package host

import (
	"slices"
	"strings"
	"testing"
)

func TestMirrorIsDebiansOwn(t *testing.T) {
	targets := "Vendor Tools http://vendor.test/apt/\nDebian Debian-Security http://mirror.test/security/\nDebian Debian http://mirror.test/debian/\n"
	if mirror := mirrorIn(targets); mirror != "http://mirror.test/debian" {
		t.Errorf("got %q", mirror)
	}
	if mirror := mirrorIn("Vendor Tools http://vendor.test/apt/\n"); mirror != "" {
		t.Errorf("got %q", mirror)
	}
}

func TestErrorTellsWhatTheProgramSaid(t *testing.T) {
	_, err := Output("sh", "-c", "echo half; echo the cause >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "the cause") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestInnerFoldersGoFirst(t *testing.T) {
	sorted := byDepth([]string{"/run/a", "/var/lib/b/c", "/var/lib/b", "/run/a"})
	if slices.Index(sorted, "/var/lib/b/c") > slices.Index(sorted, "/var/lib/b") {
		t.Errorf("got %v", sorted)
	}
}
