//! Reconciles BuildGrid, CasStorage and WorkerPool.

fn main() {}
