//! Tests on a real cluster with real clients.
