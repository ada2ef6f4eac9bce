//! Configurations: made into a model, or refused with a reason that has a place in the text.

use std::io;
use std::path::Path;

use grid_config::{Surroundings, load};

struct Nowhere;

impl Surroundings for Nowhere {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SET").then(|| "value".to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        if path.ends_with("there") { Ok("content\n".to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let loaded = load(text, &Nowhere);
    assert!(loaded.config.is_some() || loaded.errors(false) > 0, "refused without a word");
    // YAML ends lines at a lone carriage return too.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    for diagnostic in &loaded.diagnostics {
        let mark = diagnostic.mark;
        assert!((1..=lines + 1).contains(&mark.line) && mark.column >= 1, "{}", diagnostic.render("input"));
    }
}
