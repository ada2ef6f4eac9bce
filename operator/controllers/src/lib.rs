//! The three reconcilers.
