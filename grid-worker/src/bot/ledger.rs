//! [`Ledger`]: the leases of a session, and what the server's answers mean for them. Pure.
//!
//! A lease is reported as COMPLETED again and again until an answer no longer lists it: only then has the
//! server taken its result. A running lease that an answer no longer lists is cancelled. Neighbour: `session`
//! sends and receives.

use std::collections::BTreeMap;

use grid_proto::any;
use grid_proto::rwapi::{Lease, LeaseState};

use crate::execute::Outcome;

/// What an answer asks the worker to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// Begin this lease.
    Start(Box<Lease>),
    /// End this lease; nobody wants its result.
    Cancel(String),
}

/// The leases of a session, by id.
#[derive(Debug, Default)]
pub struct Ledger {
    leases: BTreeMap<String, Lease>,
}

impl Ledger {
    /// All leases as they are to be reported.
    #[must_use]
    pub fn report(&self) -> Vec<Lease> {
        self.leases.values().cloned().collect()
    }

    /// The ids of the leases that are running.
    pub fn running(&self) -> impl Iterator<Item = &String> {
        self.leases.iter().filter(|(_, lease)| !is_completed(lease)).map(|(id, _)| id)
    }

    /// Whether there are results that the server hasn't taken yet.
    #[must_use]
    pub fn has_results(&self) -> bool {
        self.leases.values().any(is_completed)
    }

    /// How many leases there are, running or with a result that isn't taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are no leases at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Notes a result. A lease that was cancelled meanwhile has none.
    pub fn complete(&mut self, id: &str, outcome: &Outcome) {
        if let Some(lease) = self.leases.get_mut(id).filter(|lease| !is_completed(lease)) {
            lease.state = LeaseState::Completed.into();
            lease.status = Some(outcome.status.clone());
            lease.result = outcome.result.as_ref().map(any::pack);
        }
    }

    /// Takes in the answer to a request that reported `sent`.
    pub fn reconcile(&mut self, sent: &[Lease], answer: Vec<Lease>) -> Vec<Instruction> {
        let mut instructions = Vec::new();
        for lease in sent {
            if answer.iter().any(|a| a.id == lease.id && a.state() != LeaseState::Cancelled) {
                continue;
            }
            // Not listed any more: taken where it was reported as completed, cancelled else.
            if let Some(gone) = self.leases.remove(&lease.id)
                && !is_completed(&gone)
            {
                instructions.push(Instruction::Cancel(gone.id));
            }
        }
        for mut lease in answer {
            let was_completed = sent.iter().any(|s| s.id == lease.id && is_completed(s));
            let known = self.leases.contains_key(&lease.id);
            match lease.state() {
                // Assigned now; or assigned anew, where the result that was just reported asked for a retry.
                LeaseState::Pending | LeaseState::Active if !known || was_completed => {
                    lease.state = LeaseState::Active.into();
                    (lease.status, lease.result) = (None, None);
                    self.leases.insert(lease.id.clone(), lease.clone());
                    instructions.push(Instruction::Start(Box::new(lease)));
                }
                _ => {}
            }
        }
        instructions
    }

    /// Forgets everything: the session is lost, and its leases with it. Gives those that were running.
    pub fn abandon(&mut self) -> Vec<String> {
        let running = self.running().cloned().collect();
        self.leases.clear();
        running
    }
}

/// Whether a lease has its result.
#[must_use]
pub fn is_completed(lease: &Lease) -> bool {
    lease.state() == LeaseState::Completed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: &str, state: LeaseState) -> Lease {
        Lease { id: id.to_owned(), state: state.into(), ..Lease::default() }
    }

    fn started(ids: &[&str]) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.reconcile(&[], ids.iter().map(|id| lease(id, LeaseState::Active)).collect());
        ledger
    }

    #[test]
    fn a_lease_starts_once() {
        let mut ledger = Ledger::default();
        let answer = vec![lease("a", LeaseState::Pending), lease("b", LeaseState::Active)];
        assert_eq!(ledger.reconcile(&[], answer.clone()).len(), 2);
        let sent = ledger.report();
        assert!(sent.iter().all(|l| l.state() == LeaseState::Active));
        assert_eq!(ledger.reconcile(&sent, answer), []);
    }

    #[test]
    fn a_result_is_reported_until_it_is_taken() {
        let mut ledger = started(&["a"]);
        ledger.complete("a", &Outcome::given_back());
        let sent = ledger.report();
        assert!(is_completed(&sent[0]) && sent[0].status.is_some());
        assert_eq!(ledger.reconcile(&sent, vec![sent[0].clone()]), [], "echoed, so not taken");
        assert!(ledger.has_results());
        assert_eq!(ledger.reconcile(&sent, vec![]), []);
        assert!(ledger.is_empty());
    }

    #[test]
    fn what_is_not_listed_any_more_or_cancelled_is_ended() {
        let mut ledger = started(&["a", "b", "c"]);
        let sent = ledger.report();
        // "c" completes while the call is under way; the server had dropped it before.
        ledger.complete("c", &Outcome::given_back());
        let ended = ledger.reconcile(&sent, vec![lease("b", LeaseState::Cancelled)]);
        assert_eq!(ended, ["a", "b"].map(|id| Instruction::Cancel(id.to_owned())));
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_result_that_came_too_late_for_a_call_goes_with_the_next() {
        let mut ledger = started(&["a"]);
        let sent = ledger.report();
        ledger.complete("a", &Outcome::given_back());
        assert_eq!(ledger.reconcile(&sent, sent.clone()), []);
        assert!(ledger.has_results(), "the answer was to a report of a running lease");
    }

    #[test]
    fn a_retry_may_come_back_to_the_same_bot() {
        let mut ledger = started(&["a"]);
        ledger.complete("a", &Outcome::given_back());
        let sent = ledger.report();
        let again = ledger.reconcile(&sent, vec![lease("a", LeaseState::Active)]);
        assert_eq!(again, [Instruction::Start(Box::new(lease("a", LeaseState::Active)))]);
        assert!(!ledger.has_results());
    }

    #[test]
    fn a_lost_session_takes_its_leases_along() {
        let mut ledger = started(&["a", "b"]);
        ledger.complete("a", &Outcome::given_back());
        assert_eq!(ledger.abandon(), ["b"]);
        assert!(ledger.is_empty());
    }
}
