//! Names of jobs, operations, sessions and replicas, and [`Ids`], where new ones come from.
//!
//! Identifiers carry no meaning and are never parsed for one; the text forms on the wire are made at the edge.

use std::fmt;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// One execution of an action, shared by every operation that asked for it.
    JobId
);
id!(
    /// What one `Execute` call asked for: a client's handle on a job.
    OperationId
);
id!(
    /// A bot's session.
    SessionId
);
id!(
    /// One server process on the queue.
    ReplicaId
);

/// Where new identifiers come from.
pub trait Ids: Debug + Send + Sync {
    /// An identifier that no other call, on any replica, gives.
    fn next(&self) -> Uuid;
}

/// Identifiers that begin with the time, so that rows made together lie together in an index.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeOrderedIds;

impl Ids for TimeOrderedIds {
    fn next(&self) -> Uuid {
        Uuid::now_v7()
    }
}
