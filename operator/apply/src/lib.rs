//! Server-side apply, orphan removal, conditions, events, leader election.
