//! Which kind of database a grid's servers use, and what is left in the one before: nothing is carried over from one to the
//! other, which nobody would notice but by what is gone.

use grid_operator_api::{BuildGrid, BuildGridSpec, BuildGridStatus};
use grid_operator_apply::Wanted;

/// The condition that tells of it.
const LEFT_BEHIND: &str = "StateLeftBehind";

/// The kind of database that a spec asks for, as the status has it; nothing where the user's own configuration says.
pub(super) fn kind(spec: &BuildGridSpec) -> Option<&'static str> {
    match (&spec.config_from, &spec.database) {
        (Some(_), _) => None,
        (None, Some(_)) => Some("postgresql"),
        (None, None) => Some("sqlite"),
    }
}

/// What is said from when another kind is asked for: until it is taken back, or until the next change of the spec once servers
/// use it.
pub(super) fn left_behind(grid: &BuildGrid, old: &BuildGridStatus) -> Option<Wanted> {
    let wanted = kind(&grid.spec)?;
    match old.database.as_deref() {
        Some(was) if was != wanted => {
            let remedy = match wanted {
                "sqlite" => "give spec.database again",
                _ => "take spec.database away again",
            };
            let message = format!(
                "the servers' database was {was} and becomes {wanted}, which begins empty: queued and running actions, results and log streams that are in the former are not carried over; to have them, {remedy}"
            );
            Some(Wanted::new(LEFT_BEHIND, true, "DatabaseChanged", message))
        }
        _ => {
            let said = old.conditions.iter().find(|condition| condition.type_ == LEFT_BEHIND)?;
            let is_news = said.observed_generation == grid.metadata.generation;
            is_news.then(|| Wanted::new(LEFT_BEHIND, true, "DatabaseChanged", &said.message))
        }
    }
}

/// What is new about it, for an event.
pub(super) fn news<'a>(before: &BuildGrid, after: &'a BuildGrid) -> Option<&'a str> {
    let is_known = |message: &str| said(before).is_some_and(|known| known == message);
    said(after).filter(|message| !is_known(message))
}

fn said(grid: &BuildGrid) -> Option<&str> {
    let mut conditions = grid.status.iter().flat_map(|status| &status.conditions);
    conditions.find(|condition| condition.type_ == LEFT_BEHIND).map(|condition| condition.message.as_str())
}
