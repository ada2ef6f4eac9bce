//! Development commands: `cargo xtask demo | test | codegen | conformance | images | bench | fuzz | import | mutations | test-images`.
//!
//! Everything here starts other programs and says what it does and how long that took. It refuses to hold
//! product logic: what a cluster test does stands in `e2e`, what a cluster is in `e2e/cluster`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is its purpose")]

mod bench;
mod buildgrid;
mod codegen;
mod conformance;
mod debian;
mod demo;
mod fuzz;
mod images;
mod mutations;
mod oci;
mod preparation;
mod record;
mod rows;
mod setup;
mod shell;
mod test;
mod test_images;
#[cfg(test)]
mod tidy;
mod workspace;

use clap::{Parser, Subcommand};

/// Build, try and test the grid on this machine, from the package registries alone.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a grid on a cluster and run a real Bazel build on it, from nothing, then say how to go on.
    Demo(demo::Options),
    /// Run the tests: all that a change must pass, or with --full all that the issues ask to be shown.
    Test(test::Options),
    /// Measure, and print the figures as tables.
    Bench(bench::Options),
    /// Make the generated files anew: CRDs, descriptors, the configuration reference.
    Codegen(codegen::Options),
    /// Run the conformance suite against bazel-remote and BuildGrid too, and write `docs/conformance.md` anew.
    Conformance,
    /// Make the container images as OCI archives, and load or push them.
    Images(images::Options),
    /// Feed the parsers of outside bytes with inputs that reach ever more of their code.
    Fuzz(fuzz::Options),
    /// Install BuildGrid from its wheel, and have it hand a storage over to ours and back.
    Import,
    /// Install BuildGrid from its wheel, and run a scenario with its client commands: `bgd` or `bgd-ingress`.
    Bgd {
        /// The scenario.
        scenario: String,
    },
    /// Break each rule of the scheduler in a copy of the sources, and see that its simulation fails.
    Mutations {
        /// Only the rules that contain this text.
        filter: Option<String>,
    },
    /// Make the images that only tests of worker pools use: BuildBox, and Go FROM scratch.
    TestImages,
    /// Install the programs that the tests and the demo start, from Debian's packages.
    Setup,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Codegen(options) => codegen::run(&options),
        Command::Conformance => conformance::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Import => buildgrid::run(),
        Command::Bgd { scenario } => buildgrid::scenario(&scenario),
        Command::Images(options) => images::run(&options),
        Command::Mutations { filter } => mutations::run(filter.as_deref()),
        Command::TestImages => test_images::run(),
        Command::Setup => setup::run(),
    }
}
