//! Options that every command group shares: which server, which instance, and as whom.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use grid_core::DigestFunction;

/// Where to connect, and as whom.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Server: http(s)://HOST:PORT, grpc(s)://HOST:PORT, or unix:PATH
    #[arg(long, global = true, value_name = "URL", default_value = "http://localhost:50051")]
    pub(crate) remote: String,

    /// Instance to work on; the unnamed one by default
    #[arg(long, global = true, value_name = "NAME", default_value = "")]
    pub(crate) instance_name: String,

    /// File with a token, sent as `authorization: Bearer`; of several, one a line, the first
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) auth_token: Option<PathBuf>,

    /// Private key for mTLS, PEM [default: client.key in the configuration folder, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,

    /// Certificate for mTLS, PEM [default: client.crt in the configuration folder, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,

    /// Certificates to trust, PEM: the server's own or its CA's [default: server.crt in the configuration
    /// folder, else the system's]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) server_cert: Option<PathBuf>,

    /// Action id to send in the request metadata
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) action_id: Option<String>,

    /// Tool invocation id to send in the request metadata; random by default
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) invocation_id: Option<String>,

    /// Correlated invocations id to send in the request metadata
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,

    /// Workflow to send in x-request-workflow
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) request_workflow: Option<String>,

    /// Actor to send in x-request-actor
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) request_actor: Option<String>,

    /// Subject to send in x-request-subject
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) request_subject: Option<String>,

    /// Digest function; the server's preferred one by default
    #[arg(long, global = true, value_name = "NAME", value_parser = digest_function)]
    pub(crate) digest_function: Option<DigestFunction>,

    /// How often a call is tried again that failed for a passing reason
    #[arg(long, global = true, value_name = "N", default_value_t = 5)]
    pub(crate) retries: u32,

    /// Print results as JSON, one document a line
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,

    /// Whether transfers show their progress on the terminal
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    pub(crate) progress: ProgressMode,
}

/// When to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// If the standard error is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

fn digest_function(name: &str) -> Result<DigestFunction, String> {
    DigestFunction::from_name(&name.to_ascii_lowercase().replace('-', "")).ok_or_else(|| {
        let names: Vec<_> = DigestFunction::ALL.iter().map(|function| function.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}
