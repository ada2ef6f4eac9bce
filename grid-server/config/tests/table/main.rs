//! The table is true: each key that it calls done or mapped is read, and changes what comes of a document; each that it
//! calls warned or refused is told so; and a value of a wrong type is an error everywhere.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a table of samples, and helpers that fail them"
)]

mod samples;

use std::io;
use std::path::Path;

use grid_config::table::{Need, Status, Ty, sections};
use grid_config::{Diagnostic, Loaded, ServerConfig, Severity, Surroundings, load};

use samples::{companions, document, mapping, only_refused, samples, usable, whole};

struct Nowhere;

impl Surroundings for Nowhere {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str) -> Loaded {
    load(text, &Nowhere)
}

fn sound(text: &str) -> ServerConfig {
    let loaded = read(text);
    loaded.config.unwrap_or_else(|| panic!("{text}\n{:#?}", loaded.diagnostics))
}

#[test]
fn every_key_that_is_done_or_mapped_changes_the_configuration() {
    for section in sections().filter(|section| usable(section)) {
        for key in section.keys {
            let at = format!("{} {}", section.name, key.name);
            if !matches!(key.status, Status::Done | Status::Mapped(_)) || only_refused(key) {
                continue;
            }
            let [first, second] = samples(section, key).map(|value| whole(section, key, &value));
            assert!(sound(&first) != sound(&second), "{at} is ignored:\n{first}\n{second}");
            let quiet =
                read(&first).diagnostics.iter().all(|d| !d.message.starts_with(&format!("`{}`", key.name)));
            assert!(quiet, "{at} is warned about: {:?}", read(&first).diagnostics);
        }
    }
}

#[test]
fn every_key_that_is_warned_or_refused_is_told() {
    for section in sections() {
        for key in section.keys {
            let severity = match key.status {
                Status::Warned(_) => Severity::Warning,
                Status::Refused(_) => Severity::Error,
                Status::Done | Status::Mapped(_) => continue,
            };
            let [first, _] = samples(section, key);
            let text = whole(section, key, &first);
            let loaded = read(&text);
            let told = loaded
                .diagnostics
                .iter()
                .any(|d| d.severity == severity && d.message.starts_with(&format!("`{}` ", key.name)));
            assert!(told, "{} {}: {:#?}", section.name, key.name, loaded.diagnostics);
        }
    }
}

#[test]
fn every_tag_that_is_warned_or_refused_is_told() {
    for section in sections() {
        let severity = match section.status {
            Status::Warned(_) => Severity::Warning,
            Status::Refused(_) => Severity::Error,
            Status::Done | Status::Mapped(_) => continue,
        };
        let loaded = read(&document(section, &mapping(section, None)));
        let told = loaded.diagnostics.iter().any(|d| {
            d.severity == severity && (d.message.starts_with(&format!("{} ", section.name)) || by_its_key(d))
        });
        assert!(told, "{}: {:#?}", section.name, loaded.diagnostics);
    }
}

/// A refused tag whose only place is under a key that is refused itself.
fn by_its_key(diagnostic: &Diagnostic) -> bool {
    diagnostic.message.contains("` is not supported: ")
}

#[test]
fn the_default_of_the_table_is_what_leaving_a_key_out_means() {
    for section in sections().filter(|section| usable(section) && section.name != "period") {
        for key in section.keys.iter().filter(|key| key.status == Status::Done) {
            let Need::Default(value) = key.need else { continue };
            let value = if value.is_empty() { "''" } else { value };
            let with = whole(section, key, value);
            let without = if section.name == "the document" {
                "server: [!channel {address: 'unix:s'}]\ninstances: []".to_owned()
            } else {
                let beside = companions(section.name, key.name);
                let text = mapping(section, Some((key.name, "null")));
                assert!(beside.is_empty() || text.contains(beside));
                document(section, &text)
            };
            // Positions differ where the text does, so what is compared leaves them out.
            assert_eq!(
                placeless(&sound(&with)),
                placeless(&sound(&without)),
                "{} {}",
                section.name,
                key.name
            );
        }
    }
}

fn placeless(config: &ServerConfig) -> String {
    let text = format!("{config:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("mark: Mark {") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('}').unwrap() + 1..];
    }
    out + rest
}

#[test]
fn a_missing_required_key_is_named() {
    for section in sections().filter(|section| usable(section)) {
        for key in section.keys.iter().filter(|key| key.need == Need::Required) {
            let text = document(section, &mapping(section, Some((key.name, "null"))));
            let loaded = read(&text);
            let named = loaded
                .diagnostics
                .iter()
                .any(|d| d.message.starts_with(&format!("`{}` is missing", key.name)));
            assert!(named, "{} {}: {:#?}", section.name, key.name, loaded.diagnostics);
        }
    }
}

#[test]
fn a_value_of_a_wrong_type_is_an_error() {
    for section in sections().filter(|section| usable(section)) {
        for key in section.keys {
            let wrong = match key.ty {
                Ty::Names => "{a: b}",
                Ty::TextMap | Ty::ChannelOptions(_) | Ty::Record(_) | Ty::Period => "[a]",
                _ => "{a: [b]}",
            };
            let loaded = read(&whole(section, key, wrong));
            assert!(loaded.config.is_none(), "{} {} takes {wrong}", section.name, key.name);
        }
    }
}

#[test]
fn no_key_is_described_twice() {
    for section in sections() {
        let mut names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{}", section.name);
    }
}

#[test]
fn minus_one_is_no_value_where_buildgrid_says_so() {
    let document = |recycle: &str, limit: &str| {
        format!(
            "server: [!channel {{address: '127.0.0.1:1', insecure-mode: yes}}]
connections: [!sql-connection &db {{connection-string: 'postgresql://a/b'{recycle}}}]
storages:
  - !lru-storage &blobs {{size: 1M}}
  - !sql-index &index {{storage: *blobs, sql: *db, window-size: 500{limit}}}
instances: [{{name: '', services: [!cas {{storage: *index}}]}}]
"
        )
    };
    let without = sound(&document("", ""));
    assert!(sound(&document(", pool-recycle: -1", ", inclause-limit: -1")) == without);
    assert!(sound(&document(", pool-recycle: 1", ", inclause-limit: 1")) != without);
    for (recycle, limit) in [(", pool-recycle: -2", ""), ("", ", inclause-limit: 0")] {
        assert!(read(&document(recycle, limit)).config.is_none());
    }
}
