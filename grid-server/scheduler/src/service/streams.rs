//! [`OpenStreams`]: the log streams of leases that this replica's bots hold, and word of those whose lease has ended.
//!
//! Whoever reads a stream waits for its end, and the worker that would write it may be gone, or not know of streams. Here
//! it is only said which are over; [`super::Scheduler::streams_over`] is where whoever keeps the streams hears of it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::core::Core;
use super::loops::{CHUNK, note};
use crate::ids::JobId;
use crate::job::{Job, Stage, Streams};

/// Ended leases that a slow listener can be behind; the streams of more end when they expire.
const BACKLOG: usize = 4_096;

/// Which streams are open, and who hears of those that are over.
#[derive(Debug)]
pub(super) struct OpenStreams {
    open: Mutex<HashMap<JobId, Streams>>,
    over: broadcast::Sender<Streams>,
}

impl Default for OpenStreams {
    fn default() -> Self {
        Self { open: Mutex::default(), over: broadcast::Sender::new(BACKLOG) }
    }
}

impl OpenStreams {
    /// The streams whose leases end from now on.
    pub(super) fn over(&self) -> broadcast::Receiver<Streams> {
        self.over.subscribe()
    }

    /// A transaction of this replica changed a job.
    pub(super) fn changed(&self, job: &Job) {
        job.closed.iter().for_each(|streams| self.close(streams.clone()));
        let mut open = self.open.lock();
        if job.state.stage == Stage::Executing && job.state.streams != Streams::default() {
            open.insert(job.id, job.state.streams.clone());
        } else {
            open.remove(&job.id);
        }
    }

    /// Those of these jobs whose leases have streams here.
    pub(super) fn among(&self, ids: &[JobId]) -> Vec<JobId> {
        let open = self.open.lock();
        ids.iter().filter(|id| open.contains_key(id)).copied().collect()
    }

    /// Every job whose lease has streams here.
    fn all(&self) -> Vec<JobId> {
        self.open.lock().keys().copied().collect()
    }

    /// How a job stands that another replica changed; `None` where it is gone.
    fn compare(&self, id: JobId, job: Option<&Job>) {
        let mut open = self.open.lock();
        let Some(known) = open.get(&id) else { return };
        let runs = |job: &&Job| job.state.stage == Stage::Executing && job.state.streams == *known;
        if job.filter(runs).is_none()
            && let Some(streams) = open.remove(&id)
        {
            drop(open);
            self.close(streams);
        }
    }

    fn close(&self, streams: Streams) {
        // Nobody listens where there are no log streams.
        let _ = self.over.send(streams);
    }
}

impl Core {
    /// Looks again at jobs that another replica may have changed; at every one with streams where none are named.
    pub(super) async fn compare_streams(&self, ids: Option<Vec<JobId>>) {
        let ids = ids.unwrap_or_else(|| self.streams.all());
        for chunk in ids.chunks(CHUNK) {
            match self.store.jobs(chunk).await {
                Ok(found) => {
                    let found: HashMap<JobId, Job> = found.into_iter().map(|job| (job.id, job)).collect();
                    chunk.iter().for_each(|id| self.streams.compare(*id, found.get(id)));
                }
                Err(error) => note(&error, "log streams of leases that may have ended stay open"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use grid_core::{Digest, DigestFunction, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::job::{JobSpec, JobState};
    use crate::properties::RequirementId;

    fn streams(name: &str) -> Streams {
        Streams { stdout: name.to_owned(), ..Streams::default() }
    }

    fn running(id: u128, name: &str) -> Job {
        let spec = JobSpec {
            instance: String::new(),
            pool: String::new(),
            action_digest: Digest::of(DigestFunction::Sha256, b""),
            cacheable: false,
            requirement: RequirementId(Uuid::nil()),
            label: String::new(),
            flow: String::new(),
            timeout_micros: None,
            command: String::new(),
            platform: Vec::new(),
            mnemonic: String::new(),
            tool: String::new(),
            locality: String::new(),
            subject: String::new(),
        };
        let mut state = JobState::queued(Timestamp(0), 0, Timestamp(0));
        state.stage = Stage::Executing;
        state.streams = streams(name);
        let id = JobId(Uuid::from_u128(id));
        Job { id, spec, action: Bytes::new(), state, ended: Vec::new(), closed: Vec::new() }
    }

    fn told(over: &mut broadcast::Receiver<Streams>) -> Vec<String> {
        std::iter::from_fn(|| over.try_recv().ok()).map(|streams| streams.stdout).collect()
    }

    #[test]
    fn a_lease_that_ends_here_is_told_once() {
        let open = OpenStreams::default();
        let mut over = open.over();
        let mut job = running(1, "first");
        open.changed(&job);
        assert_eq!(open.among(&[job.id]), [job.id]);
        job.closed.push(streams("first"));
        job.state.stage = Stage::Queued;
        job.state.streams = Streams::default();
        open.changed(&job);
        open.compare(job.id, Some(&job));
        assert_eq!(told(&mut over), ["first"]);
        assert!(open.all().is_empty());
    }

    #[test]
    fn a_lease_that_another_replica_ends_is_told_and_one_that_it_only_touched_is_not() {
        let open = OpenStreams::default();
        let mut over = open.over();
        let (still, next, gone) = (running(1, "still"), running(2, "second"), running(3, "gone"));
        for job in [&still, &running(2, "first"), &gone] {
            open.changed(job);
        }
        open.compare(still.id, Some(&still));
        open.compare(next.id, Some(&next));
        open.compare(gone.id, None);
        assert_eq!(told(&mut over), ["first", "gone"]);
        assert_eq!(open.all(), [still.id]);
    }
}
