//! `docs/configuration.md` from the table.

use std::fmt::Write as _;

use super::{Effect, Key, Need, SIDE_NOTE, Section, Side, Status, Ty, channel_options, sections, tags_of};

const HEAD: &str = "\
# Configuration

<!-- Generated from the table in grid-server/config/src/table; \
`GRID_BLESS=1 cargo test -p grid-config --test documentation` writes it anew. -->

`grid-server` reads BuildGrid's YAML. This is every tag and key that it knows, with one of four fates:

- **done**: it does what it says;
- **mapped**: an older or other spelling, whose meaning is kept;
- **warned**: it is accepted and has no effect; `grid-server check` says so, with the reason;
- **refused**: a configuration with it does not start; the message says what to do.

A key that isn't here is an error. A known key with `_` for `-` is taken, with a warning; under `check --strict` it is an
error. Scalars are read by YAML 1.1 (`yes` is a truth value), an alias stands for the very object that its anchor names,
and `<<` merges mappings. `!expand-path` expands `~` and `$VARIABLES`, `!expand-vars` the latter only, and `!read-file`
stands for a file's text without the white space around it.

Sizes are bytes with an optional binary suffix: `512M` is 536,870,912 bytes. Durations are seconds where the key says so,
else a period such as `{days: 1, hours: 12}`.
";

/// The whole document.
#[must_use]
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for section in sections() {
        write_section(&mut out, section);
    }
    write_options(&mut out);
    out
}

fn write_section(out: &mut String, section: &Section) {
    let name = if section.kind.is_some() { format!("`{}`", section.name) } else { section.name.to_owned() };
    let _ = write!(out, "\n## {name}\n\n{}\n", section.doc);
    let (fate, why) = fate(section.status);
    if section.status != Status::Done {
        let _ = write!(out, "\n**{fate}**: {why}\n");
    }
    if section.keys.is_empty() {
        return;
    }
    out.push_str("\n| key | value | default | fate | |\n|---|---|---|---|---|\n");
    for key in section.keys {
        write_key(out, key);
    }
}

fn write_key(out: &mut String, key: &Key) {
    let (fate, _) = fate(key.status);
    let need = match key.need {
        Need::Required => "required".to_owned(),
        Need::Optional => String::new(),
        Need::Default("") => "`''`".to_owned(),
        Need::Default(value) => format!("`{value}`"),
    };
    let _ = writeln!(out, "| `{}` | {} | {need} | {fate} | {} |", key.name, describe(key.ty), key.doc);
}

const fn fate(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Done => ("done", ""),
        Status::Mapped(why) => ("mapped", why),
        Status::Warned(why) => ("warned", why),
        Status::Refused(why) => ("refused", why),
    }
}

/// A type in words.
fn describe(ty: Ty) -> String {
    match ty {
        Ty::Text | Ty::Secret => "text".to_owned(),
        Ty::Path => "path".to_owned(),
        Ty::Flag => "yes or no".to_owned(),
        Ty::Whole(min, _) => format!("whole number from {min}"),
        Ty::Number(..) => "number".to_owned(),
        Ty::Seconds(_) => "seconds".to_owned(),
        Ty::Size => "size".to_owned(),
        Ty::Period => "period".to_owned(),
        Ty::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Ty::Names => "text or list".to_owned(),
        Ty::TextMap => "mapping".to_owned(),
        Ty::ChannelOptions(_) => "channel options".to_owned(),
        Ty::List(item) => format!("list of: {}", describe(*item)),
        Ty::Object(kind) => match tags_of(&[kind]).collect::<Vec<_>>().as_slice() {
            [only] => format!("`{only}`"),
            _ => kind.describe().to_owned(),
        },
        Ty::AnyOf(kinds) => kinds.iter().map(|kind| kind.describe()).collect::<Vec<_>>().join(" or "),
        Ty::Record(section) => section.name.to_owned(),
    }
}

fn write_options(out: &mut String) {
    let _ = write!(
        out,
        "\n## Channel options\n\n{SIDE_NOTE}\n\n| option | of a client | of the server |\n|---|---|---|\n"
    );
    for option in channel_options() {
        let [client, server] = [Side::Client, Side::Server].map(|side| match option.effect(side) {
            Effect::Number | Effect::Flag | Effect::Text => "done".to_owned(),
            Effect::Warned(why) => format!("warned: {why}"),
            Effect::Refused(why) => format!("refused: {why}"),
        });
        let _ = writeln!(out, "| `{}` | {client} | {server} |", option.name);
    }
}
