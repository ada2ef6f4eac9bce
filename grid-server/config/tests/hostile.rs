//! No text makes the reader panic, run away, or accept what it shouldn't.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail them")]

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use grid_config::table::sections;
use grid_config::{Surroundings, load};
use proptest::prelude::*;

struct Nowhere;

impl Surroundings for Nowhere {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Pieces that documents are made of, and some that they are not.
fn piece() -> impl Strategy<Value = String> {
    let names: Vec<String> = sections()
        .flat_map(|section| {
            let keys = section.keys.iter().map(|key| format!("{}: ", key.name));
            keys.chain(section.kind.map(|_| format!("{} ", section.name)))
        })
        .collect();
    prop_oneof![
        4 => proptest::sample::select(names),
        3 => proptest::sample::select(vec![
            "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "&b ", "*b", "yes", "12", "1.5", "'x'",
            "\"", "|\n", ">\n", "<<: ", "? ", ": ", "---\n", "...\n", "# c\n", "!", "!!str ", "\t", "~", "!read-file ",
            "!expand-path ", "$HOME", "${", "%YAML 1.1\n", "\u{feff}", "é", "\u{0}",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_mixture_of_pieces_panics(pieces in proptest::collection::vec(piece(), 0..60)) {
        let loaded = load(&pieces.concat(), &Nowhere);
        prop_assert!(loaded.config.is_some() || loaded.errors(false) > 0, "refused without a word");
    }

    #[test]
    fn no_damage_to_a_sound_document_panics(at in 0_usize..2000, with in any::<char>(), length in 0_usize..40) {
        let mut text: Vec<char> = include_str!("fixtures/examples/reference.yml").chars().collect();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, [with]);
        let text: String = text.into_iter().collect();
        let loaded = load(&text, &Nowhere);
        prop_assert!(loaded.config.is_some() || loaded.errors(false) > 0, "refused without a word");
    }
}

fn refused(text: &str, why: &str) {
    let loaded = load(text, &Nowhere);
    assert!(loaded.config.is_none());
    let said = loaded.diagnostics.iter().any(|d| d.message.contains(why));
    assert!(said, "{:?}", loaded.diagnostics.iter().take(5).collect::<Vec<_>>());
}

#[test]
fn aliases_of_aliases_are_bounded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", vec![before; 10].join(", ")).unwrap();
    }
    refused(&text, "with its aliases written out");
}

#[test]
fn merges_of_merges_are_bounded() {
    let keys: Vec<String> = (0..2000).map(|key| format!("k{key}: 1")).collect();
    let many = vec!["*a"; 2000].join(", ");
    refused(&format!("a: &a {{{}}}\n<<: [{many}]\n", keys.join(", ")), "merge more than");
}

#[test]
fn nesting_is_bounded() {
    refused(&format!("a: {}{}", "[".repeat(200), "]".repeat(200)), "levels deep");
    refused(&format!("a: {}{}", "[".repeat(5000), "]".repeat(5000)), "recursion limit");
    let block: String = (0..300).fold(String::new(), |mut text, level| {
        writeln!(text, "{}a:", " ".repeat(level)).unwrap();
        text
    });
    refused(&block, "levels deep");
}

#[test]
fn length_is_bounded() {
    refused(&"# nothing\n".repeat(200_000), "larger than");
}

#[test]
fn several_documents_are_refused() {
    refused("server: []\n---\nserver: []\n", "one document");
}

#[test]
fn an_alias_is_the_very_object_that_its_anchor_names() {
    let text = "\
server: [!channel {address: 'unix:s'}]
storages: [!lru-storage &cas {size: 1M}]
instances:
  - name: a
    services: [!cas {storage: *cas}, !bytestream {storage: *cas}]
  - name: b
    services: [!cas {storage: !lru-storage {size: 1M}}, !bytestream {storage: *cas}]
";
    use grid_config::model::Service;
    use std::sync::Arc;
    let config = load(text, &Nowhere).config.unwrap();
    let storage = |instance: usize, service: usize| match &config.instances[instance].services[service].value
    {
        Service::Cas(cas) => Arc::clone(&cas.storage),
        Service::ByteStream(bytestream) => bytestream.storage.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&storage(0, 0), &config.storages[0]));
    assert!(Arc::ptr_eq(&storage(0, 0), &storage(0, 1)));
    assert!(Arc::ptr_eq(&storage(0, 0), &storage(1, 1)));
    assert!(!Arc::ptr_eq(&storage(0, 0), &storage(1, 0)), "written out twice is two objects");
    assert_eq!(storage(0, 0).place.anchor.as_deref(), Some("cas"));
    assert_eq!(storage(0, 0).place.to_string(), "storages[0] (!lru-storage &cas, line 2)");
}

#[test]
fn an_anchored_action_cache_service_stands_for_its_cache() {
    let text = include_str!("fixtures/examples/reference.yml");
    use grid_config::model::{ServerConfig, Service};
    use std::sync::Arc;
    let config: ServerConfig = load(text, &Nowhere).config.unwrap();
    let services = &config.instances[0].services;
    let cache = services.iter().find_map(|service| match &service.value {
        Service::ActionCache(service) => Some(&service.cache),
        _ => None,
    });
    let used = services.iter().find_map(|service| match &service.value {
        Service::Execution(execution) => execution.overrides.action_cache.as_ref(),
        _ => None,
    });
    assert!(Arc::ptr_eq(cache.unwrap(), used.unwrap()));
}
