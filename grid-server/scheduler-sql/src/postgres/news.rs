//! Events as the payloads of notifications: `ORIGIN KIND ID…`, with identifiers in base64, cut to PostgreSQL's
//! limit of 8,000 bytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grid_scheduler::ids::{JobId, OperationId, SessionId};
use grid_scheduler::properties::RequirementId;
use grid_scheduler::store::Event;
use uuid::Uuid;

/// Identifiers a payload: 22 characters each, and room for the rest.
const CHUNK: usize = 350;

/// The payloads of an event.
pub(super) fn encode(origin: &str, event: &Event) -> Vec<String> {
    let (kind, ids): (char, Vec<Uuid>) = match event {
        Event::Jobs(ids) => ('j', ids.iter().map(|id| id.0).collect()),
        Event::Cancelled(ids) => ('c', ids.iter().map(|id| id.0).collect()),
        Event::Queue(ids) => ('q', ids.iter().map(|id| id.0).collect()),
        Event::Sessions(ids) => ('s', ids.iter().map(|id| id.0).collect()),
        Event::Fleet => return vec![format!("{origin} f ")],
        Event::Resync => return vec![format!("{origin} r ")],
    };
    let payload = |chunk: &[Uuid]| {
        let ids: String = chunk.iter().map(|id| URL_SAFE_NO_PAD.encode(id.as_bytes())).collect();
        format!("{origin} {kind} {ids}")
    };
    ids.chunks(CHUNK).map(payload).collect()
}

/// The event of a payload of another process; `None` for our own. What can't be read means: look at everything.
pub(super) fn decode(origin: &str, payload: &str) -> Option<Event> {
    let mut parts = payload.splitn(3, ' ');
    if parts.next() == Some(origin) {
        return None;
    }
    let event = parts.next().zip(parts.next()).and_then(|(kind, ids)| read(kind, ids));
    Some(event.unwrap_or(Event::Resync))
}

fn read(kind: &str, ids: &str) -> Option<Event> {
    let id = |text: &[u8]| Uuid::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let ids: Vec<Uuid> = ids.as_bytes().chunks(22).map(id).collect::<Option<_>>()?;
    match kind {
        "j" => Some(Event::Jobs(ids.into_iter().map(JobId).collect())),
        "c" => Some(Event::Cancelled(ids.into_iter().map(OperationId).collect())),
        "q" => Some(Event::Queue(ids.into_iter().map(RequirementId).collect())),
        "f" => Some(Event::Fleet),
        "s" => Some(Event::Sessions(ids.into_iter().map(SessionId).collect())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_wire_in_pieces_that_fit() {
        let ids: Vec<JobId> = (0..1_000).map(|n| JobId(Uuid::from_u128(n))).collect();
        let payloads = encode("me", &Event::Jobs(ids.clone()));
        assert!(payloads.iter().all(|p| p.len() < 8_000));
        let mut heard = Vec::new();
        for payload in &payloads {
            match decode("you", payload) {
                Some(Event::Jobs(ids)) => heard.extend(ids),
                other => panic!("{other:?}"),
            }
            assert_eq!(decode("me", payload), None);
        }
        assert_eq!(heard, ids);
    }

    #[test]
    fn what_cannot_be_read_means_look_at_everything() {
        for payload in ["", "you", "you x", "you j short", "you ? AAAA"] {
            assert_eq!(decode("me", payload), Some(Event::Resync), "{payload}");
        }
    }
}
