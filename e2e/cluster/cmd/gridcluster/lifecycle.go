package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"grid.build/e2e/cluster/internal/addons"
	"grid.build/e2e/cluster/internal/binaries"
	"grid.build/e2e/cluster/internal/cluster"
	"grid.build/e2e/cluster/internal/host"
	"grid.build/e2e/cluster/internal/layout"
)

func build(args []string) error {
	if err := host.EnsurePackages(host.NodePackages...); err != nil {
		return err
	}
	names := args
	if len(names) == 0 {
		names = binaries.Names()
	}
	for _, name := range names {
		start := time.Now()
		dir, err := binaries.Build(name, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Printf("%-10s %6.1f s  %s\n", name, time.Since(start).Seconds(), dir)
	}
	if len(args) > 0 {
		return nil
	}
	_, err := addons.Images(os.Stderr)
	return err
}

func up(args []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	nodes := flags.Int("nodes", 1, "number of nodes: 1 or 2")
	dir := flags.String("dir", string(layout.Default()), "folder for the cluster's state")
	var archives list
	flags.Var(&archives, "images", "OCI archive to load; more may follow as arguments")
	if err := flags.Parse(args); err != nil {
		return err
	}
	absolute, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	start := time.Now()
	return cluster.Exclusively(func() error {
		running, err := cluster.Up(layout.Dir(absolute), *nodes, append(archives, flags.Args()...), os.Stdout)
		if err != nil {
			return err
		}
		fmt.Printf("%-28s %6.1f s\n\n%s", "cluster is up", time.Since(start).Seconds(), running.EnvFile())
		return nil
	})
}

func down(args []string) error {
	flags := flag.NewFlagSet("down", flag.ContinueOnError)
	dir := flags.String("dir", string(layout.Default()), "folder of the cluster's state")
	logs := flags.String("keep-logs", "", "folder to move the logs to, replacing it")
	if err := parse(flags, args); err != nil {
		return err
	}
	return cluster.Exclusively(func() error {
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		running, err := cluster.Open(layout.Dir(absolute))
		if err != nil {
			fmt.Println("no cluster runs: nothing to do")
			return nil
		}
		start := time.Now()
		if err := running.Down(*logs); err != nil {
			return err
		}
		fmt.Printf("%-28s %6.1f s\n", "cluster is down", time.Since(start).Seconds())
		return nil
	})
}

func status(args []string) error {
	running, err := open(args)
	if err != nil {
		return err
	}
	text, well := running.Status()
	fmt.Print(text)
	if !well {
		return errors.New("not all parts run")
	}
	return nil
}

func env(args []string) error {
	running, err := open(args)
	if err == nil {
		fmt.Print(running.EnvFile())
	}
	return err
}

func load(args []string) error {
	if len(args) == 0 {
		return errors.New("name at least one OCI archive")
	}
	running, err := open(nil)
	if err != nil {
		return err
	}
	return running.Load(args)
}

func logs(args []string) error {
	running, err := open(nil)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		fmt.Println(strings.Join(running.LogParts(), "\n"))
		return nil
	}
	name, err := running.LogFile(args[0])
	if err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(os.Stdout, file)
	return err
}

func restart(args []string) error {
	running, err := open(nil)
	if err != nil {
		return err
	}
	if len(args) != 1 {
		return errors.New("name the part of the control plane to restart")
	}
	return cluster.Exclusively(func() error { return running.Restart(args[0]) })
}

func kubectl(args []string) error {
	running, err := open(nil)
	if err != nil {
		return err
	}
	return passThrough(running.Client.Command(running.Client.Kubectl, args...))
}

func helm(args []string) error {
	running, err := open(nil)
	if err != nil {
		return err
	}
	return passThrough(running.Client.Command(running.Client.Helm, args...))
}

// passThrough runs a program in place of this one: its output, its exit status.
func passThrough(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		os.Exit(ended.ExitCode())
	}
	return err
}

func open(args []string) (*cluster.Cluster, error) {
	if err := noArguments(args); err != nil {
		return nil, err
	}
	return cluster.Open(layout.Default())
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	return noArguments(flags.Args())
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
