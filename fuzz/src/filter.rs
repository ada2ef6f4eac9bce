//! Filters of operations: read, or refused at a position of the text.

use grid_scheduler::filter::parse;

pub(crate) fn run(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    if let Err(error) = parse(text) {
        assert!((1..=text.chars().count() + 1).contains(&error.position), "{error}");
    }
}
