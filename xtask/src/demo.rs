//! `cargo xtask demo`: from nothing to a Bazel build on a grid of one's own.

use anyhow::Result;
use clap::Args;

use crate::preparation::Preparation;
use crate::{images, setup, shell, workspace};

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct Options {
    /// Use the cluster of this kubeconfig context instead of starting one on this machine.
    #[arg(long, value_name = "NAME", requires = "registry")]
    context: Option<String>,
    /// The registry that this cluster pulls from; `cargo xtask images --push` fills it.
    #[arg(long, value_name = "REGISTRY")]
    registry: Option<String>,
    /// Stop the cluster when the demo ends, instead of leaving it to try things by hand.
    #[arg(long)]
    tear_down: bool,
}

/// Runs the demo.
///
/// # Errors
/// Where a step fails: its name is in the error.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    let preparation = Preparation::start()?;
    let registry = options.registry.as_deref().unwrap_or("localhost");
    let archives = images::build(registry, workspace::VERSION, "e2e", true)?;
    preparation.wait();
    let mut command =
        shell::command("cargo", ["run", "--quiet", "--locked", "-p", "grid-e2e", "--", "demo"])?;
    for (_, archive) in &archives {
        command.arg("--image").arg(archive);
    }
    if let (Some(context), Some(registry)) = (&options.context, &options.registry) {
        command.args(["--context", context, "--registry", registry]);
    }
    if options.tear_down {
        command.arg("--tear-down");
    }
    shell::step("grid on a cluster", || shell::run(&mut command))
}
