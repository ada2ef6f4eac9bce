// Package host runs programs of the machine that the cluster is on, and installs those that it lacks.
package host

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// Run runs a program to its end. Its error carries the command line and what the program printed.
func Run(name string, args ...string) error {
	_, err := Output(name, args...)
	return err
}

// Output runs a program to its end and returns its standard output.
func Output(name string, args ...string) (string, error) {
	return Capture(exec.Command(name, args...))
}

// Capture runs a prepared command as Output does.
func Capture(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		return stdout.String(), fmt.Errorf("%s: %w: %s", commandLine(cmd.Args), err, said)
	}
	return stdout.String(), nil
}

// commandLine leaves scripts out: they hide the message that follows.
func commandLine(args []string) string {
	shown := make([]string, len(args))
	for i, arg := range args {
		if strings.Contains(arg, "\n") {
			arg = "(script)"
		}
		shown[i] = arg
	}
	return strings.Join(shown, " ")
}
