package rootfs

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"grid.build/e2e/cluster/internal/cache"
	"grid.build/e2e/cluster/internal/network"
)

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

//go:embed run.sh
var runScript string

// Run says how a command runs in a root file system, which it leaves unchanged.
type Run struct {
	Root       string
	State      string   // where what the command writes is kept for a next run; if empty, it is thrown away
	Namespace  string   // network namespace; if empty, the machine's
	NameServer string   // if empty, that of the root file system
	Binds      []string // FROM:TO, a folder or file of the machine and its place inside
	Env        []string
	WorkingDir string
}

// Command runs a command and returns its error; standard streams are passed through.
func (r Run) Command(command ...string) error {
	for _, bind := range r.Binds {
		from, to, both := strings.Cut(bind, ":")
		if !both || !filepath.IsAbs(from) || !filepath.IsAbs(to) {
			return fmt.Errorf("--bind %s: expected FROM:TO, both absolute paths", bind)
		}
		if _, err := os.Stat(from); err != nil {
			return fmt.Errorf("--bind %s: %w", bind, err)
		}
	}
	state, discard, err := r.stateFolder()
	if err != nil {
		return err
	}
	defer discard()
	line := r.commandLine(state, command)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append([]string{"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8", "USER=root"}, r.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Who kills this program means the command, which would outlive it. The signal follows the death of the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

func (r Run) commandLine(state string, command []string) []string {
	var line []string
	if r.Namespace != "" {
		line = network.Enter(r.Namespace)
	}
	workdir := r.WorkingDir
	if workdir == "" {
		workdir = "/"
	}
	line = append(line, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL",
		"sh", "-c", runScript, "run", r.Root, state, r.NameServer, workdir)
	line = append(line, r.Binds...)
	return append(append(line, "--"), command...)
}

func (r Run) stateFolder() (string, func(), error) {
	if r.State != "" {
		absolute, err := filepath.Abs(r.State)
		if err != nil {
			return "", nil, err
		}
		return absolute, func() {}, os.MkdirAll(absolute, 0o755)
	}
	parent := filepath.Join(cache.Root(), "runs")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", nil, err
	}
	state, err := os.MkdirTemp(parent, "run-")
	discard := func() {
		if err := os.RemoveAll(state); err != nil {
			fmt.Fprintf(os.Stderr, "what the command wrote could not be removed: %v\n", err)
		}
	}
	return state, discard, err
}
