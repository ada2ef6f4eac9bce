//! [`Timeline`]: when an action reached which step, for `ExecutedActionMetadata`.

use std::sync::Arc;

use grid_core::{Clock, Timestamp};
use grid_proto::reapi::ExecutedActionMetadata;

/// A moment that REAPI asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The worker took the action.
    WorkerStart,
    /// It began to fetch inputs.
    InputFetchStart,
    /// All inputs are in place.
    InputFetchCompleted,
    /// The command was handed to the runner.
    ExecutionStart,
    /// The command ended.
    ExecutionCompleted,
    /// The worker began to look at outputs.
    OutputUploadStart,
    /// All outputs are in the CAS.
    OutputUploadCompleted,
    /// The worker is done.
    WorkerCompleted,
}

/// The steps that an action reached.
#[derive(Debug)]
pub struct Timeline {
    clock: Arc<dyn Clock>,
    reached: [Option<Timestamp>; 8],
}

impl Timeline {
    /// A timeline without steps.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, reached: [None; 8] }
    }

    /// Notes that `step` is reached now. Never earlier than the step before, should the clock be set back.
    pub fn mark(&mut self, step: Step) {
        let latest = self.reached.iter().flatten().max().copied();
        let now = self.clock.now();
        self.reached[step as usize] = Some(latest.map_or(now, |latest| latest.max(now)));
    }

    /// The metadata of a result. The queued time is the server's to fill in.
    #[must_use]
    pub fn metadata(&self, worker: &str) -> ExecutedActionMetadata {
        let at = |step: Step| {
            self.reached[step as usize].map(|moment| {
                let (seconds, nanos) = moment.to_parts();
                prost_types::Timestamp { seconds, nanos }
            })
        };
        let ran = self.reached[Step::ExecutionCompleted as usize]
            .zip(self.reached[Step::ExecutionStart as usize])
            .map(|(end, start)| end.since(start));
        ExecutedActionMetadata {
            worker: worker.to_owned(),
            worker_start_timestamp: at(Step::WorkerStart),
            worker_completed_timestamp: at(Step::WorkerCompleted),
            input_fetch_start_timestamp: at(Step::InputFetchStart),
            input_fetch_completed_timestamp: at(Step::InputFetchCompleted),
            execution_start_timestamp: at(Step::ExecutionStart),
            execution_completed_timestamp: at(Step::ExecutionCompleted),
            virtual_execution_duration: ran.and_then(|ran| ran.try_into().ok()),
            output_upload_start_timestamp: at(Step::OutputUploadStart),
            output_upload_completed_timestamp: at(Step::OutputUploadCompleted),
            ..ExecutedActionMetadata::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Backwards(AtomicI64);

    impl Clock for Backwards {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.fetch_sub(1_000_000, Ordering::Relaxed))
        }
    }

    #[test]
    fn steps_never_go_back_in_time() {
        let mut timeline = Timeline::new(Arc::new(Backwards(AtomicI64::new(10_000_000))));
        timeline.mark(Step::ExecutionStart);
        timeline.mark(Step::ExecutionCompleted);
        let metadata = timeline.metadata("w");
        assert_eq!(metadata.execution_start_timestamp, metadata.execution_completed_timestamp);
        assert_eq!(metadata.virtual_execution_duration, Some(prost_types::Duration::default()));
        assert_eq!(metadata.output_upload_start_timestamp, None);
    }
}
