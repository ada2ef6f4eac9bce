//! The client commands.

fn main() {}
