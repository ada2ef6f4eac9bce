//! Binds options to environment variables, as BuildGrid names them: `BUILDGRID_<GROUP>_<OPTION>` for an
//! option of a group, `BUILDGRID_<GROUP>_<COMMAND>_<OPTION>` for one of a single command.
//!
//! Options that all groups share also have the short form `BUILDGRID_<OPTION>`, which yields to the long.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

const PREFIX: &str = "BUILDGRID";

/// `command` with variables bound; `is_set` says which of them exist.
pub(crate) fn bind(command: Command, is_set: &dyn Fn(&str) -> bool) -> Command {
    command.mut_subcommands(|group| bind_group(group, is_set))
}

fn bind_group(group: Command, is_set: &dyn Fn(&str) -> bool) -> Command {
    let prefix = format!("{PREFIX}_{}", variable(group.get_name()));
    let own = prefix.clone();
    group
        .mut_args(|arg| {
            let Some(option) = option(&arg) else { return arg };
            let long = format!("{own}_{option}");
            let short = format!("{PREFIX}_{option}");
            let shared = arg.is_global_set() && !is_set(&long);
            bind_one(arg, if shared { short } else { long })
        })
        .mut_subcommands(|command| bind_command(command, &prefix))
}

fn bind_command(command: Command, group: &str) -> Command {
    let prefix = format!("{group}_{}", variable(command.get_name()));
    let inner = prefix.clone();
    command
        .mut_args(|arg| match option(&arg) {
            Some(option) => bind_one(arg, format!("{inner}_{option}")),
            None => arg,
        })
        .mut_subcommands(|command| bind_command(command, &prefix))
}

/// The option's part of the name; `None` for what has no variable: arguments, and options that take more
/// than one value.
fn option(arg: &Arg) -> Option<String> {
    let single = match arg.get_action() {
        ArgAction::Set => arg.get_num_args().is_none_or(|range| range.max_values() <= 1),
        ArgAction::SetTrue => true,
        _ => false,
    };
    let long = arg.get_long().filter(|_| single)?;
    Some(variable(long))
}

fn bind_one(arg: Arg, name: String) -> Arg {
    let flag = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = arg.env(name).hide_env_values(true);
    if flag { arg.value_parser(BoolishValueParser::new()) } else { arg }
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Command {
        Command::new("grid").subcommand(
            Command::new("action-cache")
                .arg(Arg::new("remote").long("remote").global(true))
                .arg(Arg::new("remote_cas").long("remote-cas"))
                .subcommand(
                    Command::new("get")
                        .arg(Arg::new("digest"))
                        .arg(Arg::new("verify").long("verify").action(ArgAction::SetTrue))
                        .arg(Arg::new("pair").long("pair").num_args(2)),
                ),
        )
    }

    fn names(is_set: &dyn Fn(&str) -> bool) -> Vec<(String, Option<String>)> {
        let bound = bind(sample(), is_set);
        let group = bound.find_subcommand("action-cache").unwrap();
        let args = group.get_arguments().chain(group.find_subcommand("get").unwrap().get_arguments());
        args.map(|arg| (arg.get_id().to_string(), arg.get_env().map(|e| e.to_str().unwrap().to_owned())))
            .collect()
    }

    #[test]
    fn each_option_has_the_name_of_its_place() {
        let found = names(&|_| false);
        let expected = [
            ("remote", Some("BUILDGRID_REMOTE")),
            ("remote_cas", Some("BUILDGRID_ACTION_CACHE_REMOTE_CAS")),
            ("digest", None),
            ("verify", Some("BUILDGRID_ACTION_CACHE_GET_VERIFY")),
            ("pair", None),
        ];
        let expected: Vec<_> =
            expected.map(|(id, env)| (id.to_owned(), env.map(str::to_owned))).into_iter().collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_group_goes_before_the_short_form() {
        let found = names(&|name| name == "BUILDGRID_ACTION_CACHE_REMOTE");
        assert_eq!(found[0].1.as_deref(), Some("BUILDGRID_ACTION_CACHE_REMOTE"));
    }
}
