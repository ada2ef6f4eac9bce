//! The action of `execute command`: its options, its messages, and their upload.

use std::path::PathBuf;

use grid_core::Digest;
use grid_proto::reapi::{self, ExecuteRequest, platform};

use crate::args::connection::ProgressMode;
use crate::digests;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::transfer::Cas;
use crate::tree::scan;

/// What to run, and with what.
#[derive(Debug, clap::Args)]
pub(super) struct CommandArgs {
    /// Directory whose content is the command's input
    #[arg(value_name = "INPUT_ROOT")]
    input_root: PathBuf,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// File or directory that the command makes; may be given again
    #[arg(long, value_name = "PATH")]
    output_file: Vec<String>,
    /// Where outputs go
    #[arg(long, value_name = "DIRECTORY", default_value = "testing")]
    pub(super) output_directory: PathBuf,
    /// Platform property that a worker must have; may be given again
    #[arg(short = 'p', long, num_args = 2, value_names = ["NAME", "VALUE"])]
    platform_property: Vec<String>,
    /// Let the operation go on when this command is interrupted
    #[arg(long)]
    pub(super) disable_cancellation: bool,
    /// Take the result from the action cache if it is there, and store it there
    #[arg(short = 'c', long)]
    enable_action_cache: bool,
    /// Smaller goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
}

impl CommandArgs {
    /// Uploads the input and the action; gives the action's digest.
    pub(super) async fn upload(&self, cas: &Cas, progress: ProgressMode) -> Result<Digest, Failure> {
        let scan = scan::scan(&self.input_root, cas.function()).await?;
        let mut blobs = scan.blobs;
        let command = scan::insert_message(&mut blobs, &self.message(), cas.function());
        let action = reapi::Action {
            command_digest: Some(digests::to_wire(&command)),
            input_root_digest: Some(digests::to_wire(&scan.root)),
            do_not_cache: !self.enable_action_cache,
            platform: self.platform(),
            ..Default::default()
        };
        let action = scan::insert_message(&mut blobs, &action, cas.function());
        cas.upload(&blobs, &Progress::start(progress, "uploading")).await?;
        Ok(action)
    }

    /// The request to execute `action`.
    pub(super) fn request(&self, remote: &Remote, action: &Digest) -> ExecuteRequest {
        ExecuteRequest {
            skip_cache_lookup: !self.enable_action_cache,
            execution_policy: Some(reapi::ExecutionPolicy { priority: self.priority }),
            inline_stdout: true,
            inline_stderr: true,
            ..super::execute_request(remote, action)
        }
    }

    /// Outputs are named both ways: `output_paths` since REAPI 2.1, `output_files` for workers before it.
    fn message(&self) -> reapi::Command {
        let mut outputs = self.output_file.clone();
        outputs.sort();
        outputs.dedup();
        reapi::Command {
            arguments: self.command.clone(),
            output_files: outputs.clone(),
            output_paths: outputs,
            platform: self.platform(),
            ..Default::default()
        }
    }

    /// Sorted by name, then value, as the specification asks.
    fn platform(&self) -> Option<reapi::Platform> {
        let (pairs, _) = self.platform_property.as_chunks::<2>();
        let property =
            |[name, value]: &[String; 2]| platform::Property { name: name.clone(), value: value.clone() };
        let mut properties: Vec<_> = pairs.iter().map(property).collect();
        properties.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
        (!properties.is_empty()).then_some(reapi::Platform { properties })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: CommandArgs,
    }

    #[test]
    fn the_message_is_canonical_whatever_the_order_of_options() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).unwrap().command;
        let one = parse("x -p b 2 -p a 1 --output-file z --output-file y -p b 1 . cc -c a.c");
        let two = parse("x --output-file y -p b 1 -p b 2 -p a 1 --output-file z . cc -c a.c");
        assert_eq!(one.message(), two.message());
        assert_eq!(one.message().arguments, ["cc", "-c", "a.c"], "the command's options are its own");
        assert_eq!(one.message().output_paths, ["y", "z"]);
    }
}
