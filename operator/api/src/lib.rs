//! The three custom resources.
