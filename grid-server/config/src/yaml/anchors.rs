//! The names of anchors and aliases, which the parser keeps to itself: read off the text where a node starts.

use saphyr_parser::Parser;

use super::Mark;
use super::load::mark_of;
use crate::diagnostics::{Diagnostics, suggestion};

/// How many aliases of nothing are looked for in one go.
const MAX_REPORTED: usize = 32;

/// The longest line whose anchors get a name, in characters; names only serve messages.
const MAX_COLUMN: usize = 1000;

/// A text with the places where its lines start.
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    fn offset(&self, mark: Mark) -> Option<usize> {
        if mark.column > MAX_COLUMN {
            return None;
        }
        let line = *self.starts.get(mark.line.checked_sub(1)?)?;
        let within = self.text.get(line..)?.char_indices().nth(mark.column.checked_sub(1)?)?.0;
        Some(line + within)
    }

    fn rest(&self, mark: Mark) -> Option<&'t str> {
        self.offset(mark).and_then(|offset| self.text[offset..].lines().next())
    }
}

/// The anchor of the node that starts at a place: `&name`, or `!tag &name`.
pub(super) fn anchor_at(lines: &Lines<'_>, mark: Mark) -> Option<Box<str>> {
    let rest = lines.rest(mark)?;
    rest.split_whitespace().take(2).find_map(|word| word.strip_prefix('&')).map(Into::into)
}

/// Reports every alias that names no anchor. The parser stops at the first, so each is blanked out for the next pass.
pub(super) fn report_unknown(text: &str, diagnostics: &mut Diagnostics) -> bool {
    let mut patched = text.to_owned();
    for _ in 0..MAX_REPORTED {
        let Some((mark, name)) = first_unknown(&patched) else { return patched != text };
        let defined: Vec<&str> = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('&'))
            .filter(|anchor| !anchor.is_empty())
            .collect();
        let why = if defined.contains(&name.as_str()) {
            "; it is defined further down: an anchor stands before its aliases".to_owned()
        } else {
            let near = suggestion(&name, defined.iter().copied(), "");
            near.replace("mean ", "mean *")
        };
        diagnostics.error(mark, "", format!("*{name} names no anchor of this document{why}"));
        let Some(offset) = Lines::new(&patched).offset(mark) else { return true };
        patched.replace_range(offset..=offset + name.len(), &"0".repeat(name.len() + 1));
    }
    true
}

/// Where the parser finds an alias of nothing, and the alias's name.
fn first_unknown(text: &str) -> Option<(Mark, String)> {
    let error = Parser::new_from_str(text).find_map(Result::err)?;
    let mark = mark_of(error.marker());
    let name = Lines::new(text).rest(mark)?.strip_prefix('*')?;
    let end = name
        .find(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}'))
        .unwrap_or(name.len());
    (error.info().contains("unknown anchor") && end > 0).then(|| (mark, name[..end].to_owned()))
}
