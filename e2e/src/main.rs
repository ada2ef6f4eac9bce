//! Tests on real parts: Bazel, a real Kubernetes, PostgreSQL; and the demo, which is such a test with words.
//!
//! Each scenario is a command of its own (`grid-e2e run NAME`), so that `cargo xtask test` can run and record them
//! one by one. A scenario makes what it needs, and leaves the cluster as it found it. Neighbours: `e2e/cluster`
//! starts the cluster, `xtask` builds what is tested.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is its purpose")]

mod actions;
mod api;
mod attacks;
mod bazel;
mod clients;
mod demo;
mod environment;
mod grid;
mod gridcluster;
mod issuer;
mod kube;
mod local;
mod operator;
mod pods;
mod process;
mod project;
mod reapi;
mod reference;
mod remote;
mod scenarios;
mod toolchain;
mod wait;
mod waits;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "grid-e2e", version, about = "Tests on a real cluster with real clients")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name the scenarios.
    List,
    /// Run scenarios, in the order given.
    Run {
        /// Names of scenarios; see `list`.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Make a grid on a cluster, run a Bazel build on it, and say how to go on.
    Demo(demo::Options),
    /// End the cluster and remove every trace of it.
    Down,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::List => {
            scenarios::ALL.iter().for_each(|s| println!("{:20} {}", s.name, s.shows));
            Ok(())
        }
        Command::Run { names } => names.iter().try_for_each(|name| scenarios::run(name)),
        Command::Demo(options) => demo::run(&options),
        Command::Down => gridcluster::Cluster::command_only().down(),
    }
}
