//! Development commands: demo, test, codegen, images.

fn main() {}
