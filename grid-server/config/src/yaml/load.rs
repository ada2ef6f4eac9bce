//! Drives the parser over a text, and refuses what no configuration needs: other encodings, several documents, texts
//! and expansions beyond a bound.

use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser};

use super::build::Builder;
use super::{Mark, Node, anchors};
use crate::diagnostics::Diagnostics;
use crate::surroundings::Surroundings;

/// The longest text in bytes; the largest real configurations have some tens of thousands.
const MAX_BYTES: usize = 1 << 20;
/// How many nodes a document may come to with its aliases written out. Tagged objects are shared, not written out, so
/// a configuration never comes near.
const MAX_EXPANDED: usize = 1 << 20;

pub(super) fn mark_of(marker: &Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

/// The document's root node, or `None` where the text is no YAML that we take; then the diagnostics say why.
pub(crate) fn load(
    text: &str,
    around: &dyn Surroundings,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Node>> {
    let start = Mark { line: 1, column: 1 };
    if text.len() > MAX_BYTES {
        diagnostics.error(start, "", format!("the file is larger than {MAX_BYTES} bytes"));
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if anchors::report_unknown(text, diagnostics) {
        return None;
    }
    let root = parse(text, Builder::new(text, around, diagnostics))?;
    if root.expanded > MAX_EXPANDED {
        diagnostics.error(
            start,
            "",
            format!("with its aliases written out the document has more than {MAX_EXPANDED} nodes; use fewer aliases of aliases"),
        );
        return None;
    }
    Some(root)
}

fn parse(text: &str, mut builder: Builder<'_>) -> Option<Arc<Node>> {
    let mut documents = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.error(mark_of(error.marker()), format!("not YAML: {}", error.info()));
                return None;
            }
        };
        let mark = mark_of(&span.start);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                builder.error(
                    mark,
                    "a configuration is one document; remove the `---` and what follows".to_owned(),
                );
                return None;
            }
        }
        builder.event(event, mark)?;
    }
    builder.finish()
}
