package host

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// NodePackages are the Debian packages without which no node runs.
var NodePackages = []string{
	"containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "util-linux", "ca-certificates",
}

// ImagePackages are the Debian packages that make root file systems.
var ImagePackages = []string{"debootstrap", "mmdebstrap", "debian-archive-keyring"}

// EnsurePackages installs those of the named Debian packages that are missing.
func EnsurePackages(names ...string) error {
	var missing []string
	for _, name := range names {
		state, _ := Output("dpkg-query", "--show", "--showformat=${db:Status-Status}", name)
		if state != "installed" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the Debian packages %s are missing: install them, or run this as root", strings.Join(missing, " "))
	}
	install := func() error {
		args := append([]string{"install", "--yes", "--no-install-recommends"}, missing...)
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		_, err := Capture(cmd)
		return err
	}
	// The package lists of the machine may be absent or old: only then are they fetched.
	if install() == nil {
		return nil
	}
	if err := Run("apt-get", "update"); err != nil {
		return fmt.Errorf("fetching Debian's package lists: %w", err)
	}
	return install()
}

// DebianMirror is the mirror that the machine's apt is set up with, or "" for the default of the tool that asks.
func DebianMirror() string {
	lines, err := Output("apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return ""
	}
	return mirrorIn(lines)
}

func mirrorIn(targets string) string {
	for line := range strings.Lines(targets) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Debian" && fields[1] == "Debian" {
			return strings.TrimSuffix(fields[2], "/")
		}
	}
	return ""
}
