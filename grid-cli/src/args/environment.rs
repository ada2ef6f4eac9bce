//! Binds options to environment variables, as BuildGrid names them: `BUILDGRID_<GROUP>_<OPTION>` for an
//! option of a group, `BUILDGRID_<GROUP>_<COMMAND>_<OPTION>` for one of a single command.
//!
//! Options that all groups share also have the short form `BUILDGRID_<OPTION>`, which yields to the long. The variable of an
//! option that may be given again has all its values, apart by white space. On the command line a space is part of a value, so
//! clap's own way of parting values would not do: [`fill`] sets them once it is known that the command line has none.

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

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

/// Options that may be given again, with the values that the environment has for those of them that the command line, as it was
/// taken in, leaves out. `None` where that changes nothing.
///
/// # Errors
/// Where values that belong together are not all there.
pub(crate) fn fill(
    command: Command,
    matches: &ArgMatches,
    read: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Command>, clap::Error> {
    fill_below(command, matches, PREFIX, read).map(|(command, is_changed)| is_changed.then_some(command))
}

fn fill_below(
    mut command: Command,
    matches: &ArgMatches,
    prefix: &str,
    read: &dyn Fn(&str) -> Option<String>,
) -> Result<(Command, bool), clap::Error> {
    let mut is_changed = false;
    let repeated: Vec<Arg> = command.get_arguments().filter(|arg| is_repeated(arg)).cloned().collect();
    for arg in repeated {
        let id = arg.get_id().to_string();
        let name = format!("{prefix}_{}", variable(arg.get_long().unwrap_or_default()));
        let text = read(&name).filter(|_| matches.value_source(&id).is_none()).unwrap_or_default();
        let values: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let together = arg.get_num_args().map_or(1, |range| range.max_values());
        if !values.len().is_multiple_of(together) {
            let message = format!("{name} has {} values, and they go by {together}\n", values.len());
            return Err(command.error(ErrorKind::WrongNumberOfValues, message));
        }
        if !values.is_empty() {
            is_changed = true;
            command = command.mut_arg(id, |arg| arg.num_args(values.len()).default_values(values));
        }
    }
    let Some((name, within)) = matches.subcommand() else { return Ok((command, is_changed)) };
    let Some(below) = command.find_subcommand(name).cloned() else { return Ok((command, is_changed)) };
    let (below, below_changed) = fill_below(below, within, &format!("{prefix}_{}", variable(name)), read)?;
    Ok((command.mut_subcommand(name, |_| below), is_changed || below_changed))
}

fn is_repeated(arg: &Arg) -> bool {
    arg.get_long().is_some() && matches!(arg.get_action(), ArgAction::Append)
}

/// The option's part of the name; `None` for what has no variable here: arguments, and options that take more
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

    /// What options that may be given again come to have: files, and pairs of texts.
    fn repeated(line: &[&str], variables: &[(&str, &str)]) -> Result<[Vec<String>; 2], clap::Error> {
        let option = |id: &'static str| Arg::new(id).long(id).action(ArgAction::Append);
        let run = Command::new("run").arg(option("file")).arg(option("pair").num_args(2));
        let command = Command::new("grid").subcommand(Command::new("execute").subcommand(run));
        let line = || ["grid", "execute", "run"].iter().chain(line);
        let read =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let mut matches = command.clone().try_get_matches_from(line())?;
        if let Some(filled) = fill(command, &matches, &read)? {
            matches = filled.try_get_matches_from(line())?;
        }
        let run = matches.subcommand().unwrap().1.subcommand().unwrap().1;
        let values = |id: &str| run.get_many::<String>(id).into_iter().flatten().cloned().collect();
        Ok(["file", "pair"].map(values))
    }

    #[test]
    fn options_that_may_be_given_again_take_values_apart_by_white_space() {
        let variables = [
            ("BUILDGRID_EXECUTE_RUN_FILE", "a.o b.o"),
            ("BUILDGRID_EXECUTE_RUN_PAIR", "OSFamily linux  ISA x"),
        ];
        let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>();
        let pairs = owned(&["OSFamily", "linux", "ISA", "x"]);
        let [files, found] = repeated(&[], &variables).unwrap();
        assert_eq!((files, &found), (owned(&["a.o", "b.o"]), &pairs));
        let [files, found] = repeated(&["--file", "c d", "--file", "e"], &variables).unwrap();
        assert_eq!((files, &found), (owned(&["c d", "e"]), &pairs), "the command line goes before");
        assert_eq!(repeated(&[], &[]).unwrap(), [owned(&[]), owned(&[])]);
        let refusal = repeated(&[], &[("BUILDGRID_EXECUTE_RUN_PAIR", "OSFamily linux ISA")]).unwrap_err();
        assert!(refusal.to_string().contains("BUILDGRID_EXECUTE_RUN_PAIR has 3 values"), "{refusal}");
    }

    #[test]
    fn the_group_goes_before_the_short_form() {
        let found = names(&|name| name == "BUILDGRID_ACTION_CACHE_REMOTE");
        assert_eq!(found[0].1.as_deref(), Some("BUILDGRID_ACTION_CACHE_REMOTE"));
    }
}
