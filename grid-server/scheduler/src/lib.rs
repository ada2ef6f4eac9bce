//! The job state machine and the QueueStore trait.
