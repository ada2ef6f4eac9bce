//! Metrics, traces, logs.
