package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"grid.build/e2e/cluster/internal/cluster"
	"grid.build/e2e/cluster/internal/layout"
	"grid.build/e2e/cluster/internal/rootfs"
	"grid.build/e2e/cluster/internal/services"
	"grid.build/e2e/cluster/internal/smoke"
)

func servicesImages(args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	archives, err := services.Images(os.Stderr)
	for _, archive := range archives {
		fmt.Println(archive)
	}
	return err
}

func clientsRootfs(args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	root, err := rootfs.Clients(os.Stderr)
	if err == nil {
		fmt.Println(root)
	}
	return err
}

func clientsImage(args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	archive, err := rootfs.Image(os.Stderr)
	if err == nil {
		fmt.Println(archive)
	}
	return err
}

func clientsRun(args []string) error {
	var run rootfs.Run
	var binds, env list
	flags := flag.NewFlagSet("clients-run", flag.ContinueOnError)
	flags.StringVar(&run.State, "state", "", "folder that keeps what the command writes; thrown away if not given")
	flags.StringVar(&run.Namespace, "netns", "", "network namespace to run in, such as n1; the machine's if not given")
	flags.StringVar(&run.WorkingDir, "workdir", "/", "working directory inside")
	flags.Var(&binds, "bind", "FROM:TO, a folder or file of the machine and where it is inside")
	flags.Var(&env, "env", "NAME=value")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("name a command to run")
	}
	root, err := rootfs.Clients(os.Stderr)
	if err != nil {
		return err
	}
	run.Root, run.Binds, run.Env = root, binds, env
	if _, err := cluster.Open(layout.Default()); err == nil {
		run.NameServer = layout.ControlPlane
	}
	err = run.Command(flags.Args()...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		os.Exit(ended.ExitCode())
	}
	return err
}

func smokeTest(args []string) error {
	flags := flag.NewFlagSet("smoke", flag.ContinueOnError)
	nodes := flags.Int("nodes", 1, "number of nodes: 1, or 2 with faults of a node")
	if err := parse(flags, args); err != nil {
		return err
	}
	return cluster.Exclusively(func() error { return smoke.Run(*nodes, os.Stdout) })
}
