//! The worker's bot and the runner of commands.

fn main() {}
