//! BuildGrid-compatible YAML to plain data, with positions.
//!
//! A text becomes a tree of nodes that keeps positions, tags and shared anchors (`yaml`); the table says which tags and
//! keys there are and what becomes of each ([`table`]); decoding makes the model of it ([`model`]) and collects everything
//! there is to say about the document on the way ([`Diagnostic`]). Nothing here opens a connection or a file but what
//! `!read-file` names: that is for those who compose a server from the model.

mod decode;
mod diagnostics;
pub mod model;
mod surroundings;
pub mod table;
mod yaml;

pub use diagnostics::{Diagnostic, Severity};
pub use model::ServerConfig;
pub use surroundings::{Machine, Surroundings};
pub use yaml::Mark;

use diagnostics::Diagnostics;

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, where it has no error.
    pub config: Option<ServerConfig>,
    /// Everything there is to say about it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// How many of the diagnostics stand against using the configuration; `strict` counts deprecated spellings too.
    #[must_use]
    pub fn errors(&self, strict: bool) -> usize {
        let counts =
            |d: &&Diagnostic| d.severity == Severity::Error || (strict && d.severity == Severity::Deprecated);
        self.diagnostics.iter().filter(counts).count()
    }
}

/// Reads a configuration.
#[must_use]
pub fn load(text: &str, around: &dyn Surroundings) -> Loaded {
    let mut diagnostics = Diagnostics::default();
    let config =
        yaml::load(text, around, &mut diagnostics).and_then(|root| decode::decode(&root, &mut diagnostics));
    let config = config.filter(|_| !diagnostics.has_errors());
    Loaded { config, diagnostics: diagnostics.into_sorted() }
}
