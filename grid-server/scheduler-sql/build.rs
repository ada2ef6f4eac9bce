//! Has the crate built again when a migration is added: the macro that embeds them does not notice a new file.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
