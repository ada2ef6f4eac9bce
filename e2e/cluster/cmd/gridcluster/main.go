// Command gridcluster runs a real Kubernetes cluster on this machine, built from source. See the README beside it.
package main

import (
	"fmt"
	"os"
	"strings"
)

// command is a subcommand; run gets the arguments after its name.
type command struct {
	name    string
	usage   string
	summary string
	run     func(args []string) error
}

func commands() []command {
	return []command{
		{"build", "[PROGRAM...]", "build and keep the programs of the cluster, all with its images or those named; print their folders", build},
		{"up", "[--nodes 1|2] [--dir DIR] [--images FILE.tar...]", "start the cluster, or what of it does not run", up},
		{"down", "[--dir DIR] [--keep-logs DIR]", "end the cluster and remove every trace of it", down},
		{"status", "", "tell how each part is", status},
		{"env", "", "print KUBECONFIG, INGRESS_ADDRESS and more as NAME=value lines", env},
		{"load", "FILE.tar...", "import OCI archives into each node", load},
		{"logs", "[PART]", "print the log of a part, or name the parts", logs},
		{"restart", "PART", "kill a part of the control plane and start it again", restart},
		{"node", "kill|start|cut|heal|freeze|thaw NODE", "make a node fail, and undo it", nodeCommand},
		{"services-images", "", "make the images of PostgreSQL, Redis and S3; print their archives", servicesImages},
		{"clients-rootfs", "", "make the root file system with Bazel, BuildStream, recc, buildbox; print its folder", clientsRootfs},
		{"clients-image", "", "write that root file system as an OCI archive; print its file", clientsImage},
		{"clients-run", "[--state DIR] [--netns NAME] [--workdir DIR] [--bind FROM:TO] [--env NAME=value] [--] COMMAND...",
			"run a command in that root file system, which stays as it is", clientsRun},
		{"smoke", "[--nodes 1|2]", "test a cluster from start to end", smokeTest},
		{"kubectl", "ARGS...", "run kubectl on the cluster", kubectl},
		{"helm", "ARGS...", "run helm on the cluster", helm},
	}
}

func main() {
	if len(os.Args) < 2 || os.Args[1] == "--help" || os.Args[1] == "help" {
		usage(os.Stdout)
		return
	}
	for _, command := range commands() {
		if command.name == os.Args[1] {
			if err := command.run(os.Args[2:]); err != nil {
				fmt.Fprintf(os.Stderr, "gridcluster %s: %v\n", command.name, err)
				os.Exit(1)
			}
			return
		}
	}
	fmt.Fprintf(os.Stderr, "gridcluster: there is no command %q\n\n", os.Args[1])
	usage(os.Stderr)
	os.Exit(2)
}

func usage(out *os.File) {
	var text strings.Builder
	text.WriteString("usage: gridcluster COMMAND [ARGS]\n\n")
	for _, command := range commands() {
		fmt.Fprintf(&text, "  %s\n        %s\n", strings.TrimSpace(command.name+" "+command.usage), command.summary)
	}
	fmt.Fprint(out, text.String())
}
