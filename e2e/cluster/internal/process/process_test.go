package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func part(t *testing.T) Part {
	dir := t.TempDir()
	part := Part{Name: "part", RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "logs")}
	t.Cleanup(func() {
		if err := part.Stop(0); err != nil {
			t.Error(err)
		}
	})
	return part
}

func TestStartStop(t *testing.T) {
	part := part(t)
	if err := part.Start("sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	first := part.Pid()
	if first == 0 {
		t.Fatal("a started part has no process")
	}
	if err := part.Start("sleep", "1000"); err != nil || part.Pid() != first {
		t.Errorf("a second start: %v, process %d instead of %d", err, part.Pid(), first)
	}
	if err := part.Stop(time.Second); err != nil || part.Pid() != 0 {
		t.Errorf("after stop: %v, process %d", err, part.Pid())
	}
}

func TestStopEndsWhatIgnoresSIGTERM(t *testing.T) {
	part := part(t)
	if err := part.Start("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done"); err != nil {
		t.Fatal(err)
	}
	err := Await(10*time.Second, func() (bool, error) {
		log, err := os.ReadFile(part.LogFile())
		return string(log) == "deaf\n", err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := part.Stop(10 * time.Millisecond); err != nil || part.Pid() != 0 {
		t.Errorf("after stop: %v, process %d", err, part.Pid())
	}
}

func TestReusedNumberIsNotThePart(t *testing.T) {
	part := part(t)
	if err := os.MkdirAll(part.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	// This very process, but of another birth.
	if err := os.WriteFile(part.pidFile(), fmt.Appendf(nil, "%d 1\n", os.Getpid()), 0o644); err != nil {
		t.Fatal(err)
	}
	if pid := part.Pid(); pid != 0 {
		t.Errorf("process %d is taken for the part", pid)
	}
}

func TestParseStat(t *testing.T) {
	stat := func(state string, threads int) string {
		return fmt.Sprintf("12 (a) b)) %s 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 %d 18 777 20 21", state, threads)
	}
	for _, example := range []struct {
		state   string
		threads int
		alive   bool
	}{{"S", 1, true}, {"Z", 1, false}, {"Z", 3, true}, {"X", 0, false}} {
		birth, alive := parseStat(stat(example.state, example.threads))
		if birth != "777" || alive != example.alive {
			t.Errorf("%s with %d threads: got %q, %t", example.state, example.threads, birth, alive)
		}
	}
	if _, alive := parseStat("nonsense"); alive {
		t.Error("nonsense is taken for alive")
	}
}

func TestComplaintShowsTheEndOfTheLog(t *testing.T) {
	part := part(t)
	if err := part.Start("sh", "-c", "for i in $(seq 100); do echo line $i; done; exec sleep 60"); err != nil {
		t.Fatal(err)
	}
	printed := func() (bool, error) {
		content, err := os.ReadFile(part.LogFile())
		return strings.Contains(string(content), "line 100\n"), err
	}
	if err := Await(10*time.Second, printed); err != nil {
		t.Fatal(err)
	}
	complaint := part.Complaint()
	if !strings.Contains(complaint, part.LogFile()) || !strings.Contains(complaint, "line 100") || strings.Contains(complaint, "line 88\n") {
		t.Errorf("got %s", complaint)
	}
}
