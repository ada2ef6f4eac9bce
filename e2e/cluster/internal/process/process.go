// Package process starts the cluster's long-running parts detached from whoever starts them, finds them again by a
// file, and ends them. It refuses to signal a process that merely got the number of one that has ended.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Part is a long-running process: its record is RunDir/Name.pid, its output LogDir/Name.log.
type Part struct {
	Name   string
	RunDir string
	LogDir string
}

// LogFile is where the part's output goes.
func (p Part) LogFile() string { return filepath.Join(p.LogDir, p.Name+".log") }

func (p Part) pidFile() string { return filepath.Join(p.RunDir, p.Name+".pid") }

// Start runs the command in a session of its own, without terminal and standard input, its output appended to the log.
// It does nothing if the part already runs.
func (p Part) Start(command ...string) error {
	if p.Pid() != 0 {
		return nil
	}
	for _, dir := range []string{p.RunDir, p.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(p.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	birth, alive := birthOf(cmd.Process.Pid)
	if !alive {
		_ = cmd.Wait() // its status says no more than its log
		return fmt.Errorf("%s ended as soon as it was started\n%s", p.Name, p.Complaint())
	}
	// Whoever of us outlives the other: without this an early end of the part would leave a zombie that looks alive.
	go cmd.Wait() //nolint:errcheck // the part's end is seen through its pid file
	return os.WriteFile(p.pidFile(), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, birth), 0o644)
}

// Pid is the part's process, or 0 if it does not run.
func (p Part) Pid() int {
	content, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(content))
	if len(fields) != 2 {
		return 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0
	}
	if birth, alive := birthOf(pid); !alive || birth != fields[1] {
		return 0
	}
	return pid
}

// Started is when the part was last started; zero if it never was.
func (p Part) Started() time.Time {
	info, err := os.Stat(p.pidFile())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Stop ends the part, if it runs, and waits until it is gone: by SIGTERM, then after the grace by SIGKILL.
func (p Part) Stop(grace time.Duration) error {
	pid := p.Pid()
	if pid != 0 && grace > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = Await(grace, func() (bool, error) { return p.Pid() == 0, nil })
	}
	if pid = p.Pid(); pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("ending %s (process %d): %w", p.Name, pid, err)
		}
		if err := Await(10*time.Second, func() (bool, error) { return p.Pid() == 0, nil }); err != nil {
			return fmt.Errorf("%s (process %d) is still there after SIGKILL", p.Name, pid)
		}
	}
	if err := os.Remove(p.pidFile()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// Complaint names the part's log and shows its end, for a message about a part that does not work.
func (p Part) Complaint() string { return LogTail(p.LogFile(), 12) }

// LogTail names a log file and shows its last lines.
func LogTail(path string, count int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("its log %s can't be read: %v", path, err)
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	if len(lines) > count {
		lines = lines[len(lines)-count:]
	}
	return fmt.Sprintf("read %s; it ends with:\n  %s", path, strings.Join(lines, "\n  "))
}

// birthOf tells when a process was started (in clock ticks since boot), and whether it lives.
func birthOf(pid int) (string, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	return parseStat(string(stat))
}

// parseStat reads state (field 3), number of threads (20) and start time (22); the name in field 2 may itself hold blanks and
// parentheses. A zombie does not live, unless it still has threads: those may hold its ports.
func parseStat(stat string) (birth string, alive bool) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return "", false
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 20 {
		return "", false
	}
	state, threads := fields[0], fields[17]
	ended := (state == "Z" || state == "X") && (threads == "0" || threads == "1")
	return fields[19], !ended
}

// Final marks an error after which Await waits no longer.
func Final(err error) error { return finalError{err} }

type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

// Await calls check until it says true, for at most the given time. An error from check is only that of the moment, unless
// it is Final. For things that raise no event.
func Await(limit time.Duration, check func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		done, err := check()
		if done && err == nil {
			return nil
		}
		if errors.As(err, new(finalError)) {
			return err
		}
		if time.Now().After(deadline) {
			if err == nil {
				err = fmt.Errorf("not so after %s", limit)
			}
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Ancestors are the numbers of a process and of all those that it descends from.
func Ancestors(pid int) map[string]bool {
	found := make(map[string]bool)
	for number := strconv.Itoa(pid); number != "0" && number != "" && !found[number]; {
		found[number] = true
		stat, err := os.ReadFile("/proc/" + number + "/stat")
		if err != nil {
			break
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		number = fields[1]
	}
	return found
}
